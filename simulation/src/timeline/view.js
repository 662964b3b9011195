// What is in sight: zoom, pan, and everything that is drawn into it.
"use strict";

const $ = (id) => document.getElementById(id);
const canvases = { overview: $("overview"), ruler: $("ruler"), lanes: $("canvas") };
const OVERVIEW_HEIGHT = 26, RULER_HEIGHT = 78;
const RULER_ROWS = { phases: 2, violations: 22, marks: 42, ticks: 58 };
/// The first lies beside the overview, the others beside the ruler.
const AXIS_LABELS = [
  { text: "whole run", y: 4, height: 18 },
  { text: "phases", y: RULER_ROWS.phases, height: 17 },
  { text: "broken promises", y: RULER_ROWS.violations, height: 17 },
  { text: "rare states", y: RULER_ROWS.marks - 1, height: 17 },
  { text: "simulated ms", y: RULER_ROWS.ticks - 1, height: 17 },
];
const LABELS_ON_PAPER = 150;
/// Nothing happens within less: simulated time is counted in microseconds.
const LEAST_SPAN = 200;
/// The most calls whose time is shaded through all lanes.
const MOST_SHADES = 12;

const everything = () => [-model.end * 0.01, model.end * 1.02];
const view = { from: 0, to: 1, width: 800, here: null, chosen: null };
[view.from, view.to] = everything();
let layout = arrange();
/// What was drawn last and can be pointed at: rectangles in each canvas.
const targets = { ruler: [], lanes: [] };
const observers = [];

const toX = (at) => ((at - view.from) / (view.to - view.from)) * view.width;
const toTime = (x) => view.from + (x / view.width) * (view.to - view.from);

function show(from, to) {
  const [least, most] = everything();
  const span = Math.min(Math.max(to - from, LEAST_SPAN), most - least);
  const start = Math.min(Math.max((from + to - span) / 2, least), most - span);
  view.from = start;
  view.to = start + span;
  // What was pointed at has moved away.
  hideTip();
  redraw();
}
const zoom = (factor, around = (view.from + view.to) / 2) =>
  show(around - (around - view.from) * factor, around + (view.to - around) * factor);
const pan = (by) => show(view.from + by, view.to + by);

/// Brings a moment to the middle, near enough to tell it from its neighbours.
function centre(at) {
  const span = Math.min(view.to - view.from, Math.max(model.end / 15, LEAST_SPAN));
  view.here = at;
  show(at - span / 2, at + span / 2);
}

/// Shows `from` to `to` with some of what came before and after.
function showAround(from, to, least) {
  const room = Math.max((to - from) * 0.15, least ?? model.end / 40);
  show(from - room, to + room);
}

let due = 0;
function redraw() {
  due ||= requestAnimationFrame(() => {
    due = 0;
    draw();
    for (const observer of observers) observer();
  });
}

/// A canvas of the given height in CSS pixels, cleared, ready to draw in them.
/// On paper it holds its labels too: a browser may scale a canvas there by
/// another measure than what lies beside it.
function prepared(canvas, height, labels) {
  const margin = view.printing ? LABELS_ON_PAPER : 0;
  const sharp = view.printing ? 3 : window.devicePixelRatio || 1;
  const [wide, tall] = [Math.round((view.width + margin) * sharp), Math.round(height * sharp)];
  if (canvas.width !== wide || canvas.height !== tall) {
    canvas.width = wide;
    canvas.height = tall;
    canvas.style.width = `${view.width + margin}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(sharp, 0, 0, sharp, margin * sharp, 0);
  context.clearRect(-margin, 0, view.width + margin, height);
  context.textBaseline = "middle";
  if (margin) {
    for (const { text, more, className, y, height } of labels) {
      const style = className === "lane" ? { size: 13, weight: 600 } : { size: 12, colour: SOFT };
      const from = (className === "group" ? 24 : 8) - margin;
      write(context, more ? `${text}, ${more}` : text, from, y + height / 2, -from - 4, style);
    }
    context.beginPath();
    context.rect(0, 0, view.width, height);
    context.clip();
  }
  return context;
}

function draw() {
  targets.ruler = [];
  targets.lanes = [];
  drawOverview();
  drawRuler();
  drawLanes();
}

/// The whole run, always, and which part of it is in sight.
function drawOverview() {
  const context = prepared(canvases.overview, OVERVIEW_HEIGHT, AXIS_LABELS.slice(0, 1));
  const [least, most] = everything();
  const x = (at) => ((at - least) / (most - least)) * view.width;
  for (const phase of model.phases) {
    context.fillStyle = PHASE_COLOURS[phase.name] ?? LINE;
    context.fillRect(x(phase.from), 4, x(phase.to) - x(phase.from), 18);
  }
  for (const fault of model.faults) {
    context.fillStyle = REACH_COLOURS[fault.reach].ink;
    context.globalAlpha = 0.55;
    context.fillRect(x(fault.from), 17, Math.max(1.5, x(fault.to ?? fault.from) - x(fault.from)), 5);
  }
  context.globalAlpha = 1;
  context.fillStyle = RED;
  for (const violation of model.violations) {
    for (const id of violation.operations) {
      const call = model.operations.get(id);
      if (call) context.fillRect(x(call.from) - 1, 10, Math.max(2, x(call.to) - x(call.from)), 6);
    }
    context.fillRect(x(violation.at) - 1.5, 1, 3, 24);
  }
  context.fillStyle = "rgb(255 255 255 / 62%)";
  context.fillRect(0, 0, x(view.from), OVERVIEW_HEIGHT);
  context.fillRect(x(view.to), 0, view.width, OVERVIEW_HEIGHT);
  context.strokeStyle = INK;
  context.lineWidth = 1.5;
  context.strokeRect(x(view.from) + 1, 1.5, Math.max(3, x(view.to) - x(view.from) - 2), OVERVIEW_HEIGHT - 3);
}

/// Round steps of time that leave room for their labels.
function ticks() {
  const rough = ((view.to - view.from) / view.width) * 95;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough));
  const all = [];
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) all.push(at);
  return { step, all: all.filter((at) => at >= 0 && at <= model.end * 1.02) };
}

function drawRuler() {
  const context = prepared(canvases.ruler, RULER_HEIGHT, AXIS_LABELS.slice(1));
  const rows = RULER_ROWS;
  for (const phase of model.phases) {
    const [from, to] = [Math.max(0, toX(phase.from)), Math.min(view.width, toX(phase.to))];
    if (to <= from) continue;
    context.fillStyle = PHASE_COLOURS[phase.name] ?? LINE;
    context.fillRect(from, rows.phases, to - from, 17);
    context.fillStyle = "#9aa5b0";
    context.fillRect(from, rows.phases, 1, 17);
    write(context, phase.name, from + 6, rows.phases + 9, to - from - 8, { size: 12, weight: 600 });
    targets.ruler.push({ x: from, y: rows.phases, w: to - from, h: 17, phase });
  }
  const { step, all } = ticks();
  for (const at of all) {
    context.fillStyle = LINE;
    context.fillRect(toX(at), rows.ticks + 14, 1, 6);
    const label = milliseconds(at, step);
    context.font = font(11);
    const half = context.measureText(label).width / 2;
    const x = Math.min(Math.max(toX(at), half + 2), view.width - half - 2);
    write(context, label, x - half, rows.ticks + 7, 200, { colour: SOFT });
  }
  drawMarks(context, rows.marks);
  drawCallNames(context, rows.violations, drawFlags(context, rows.violations));
  if (view.here !== null) {
    context.fillStyle = HERE;
    context.fillRect(toX(view.here) - 0.5, rows.ticks, 1.5, RULER_HEIGHT - rows.ticks);
  }
}

/// Small flags; their names where the next one leaves room.
function drawMarks(context, y) {
  model.marks.forEach((mark, index) => {
    const x = toX(mark.at);
    if (x < -2 || x > view.width) return;
    context.fillStyle = "#46627e";
    context.fillRect(x, y, 1.2, 15);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 8, y + 3.5);
    context.lineTo(x, y + 7);
    context.fill();
    const next = model.marks[index + 1];
    const room = (next ? Math.min(toX(next.at), view.width) : view.width) - x - 14;
    write(context, mark.text, x + 10, y + 7, room, { colour: "#46627e" });
    targets.ruler.push({ x: x - 2, y, w: 12 + Math.max(0, Math.min(room, 60)), h: 15, mark });
  });
}

/// Broken promises by name. Those that share a place share a flag.
function drawFlags(context, y) {
  const flags = [];
  for (const violation of model.violations) {
    const x = toX(violation.at);
    const last = flags.at(-1);
    if (last && x - last.x < 12) last.violations.push(violation);
    else flags.push({ x, violations: [violation] });
  }
  context.font = font(11.5, 700);
  const taken = [];
  let free = -Infinity;
  for (const { x, violations } of flags) {
    // Out of sight, a flag waits at the edge and says in which direction.
    const [before, after] = [x < 0, x > view.width];
    const more = violations.length > 1 ? ` and ${violations.length - 1} more` : "";
    const text = `${before ? "◂ " : ""}${violations[0].promise}${more}${after ? " ▸" : ""}`;
    const wide = Math.min(context.measureText(text).width + 12, view.width / 2);
    const at = Math.min(Math.max(x, 0), view.width);
    const left = at + wide > view.width ? at - wide : at;
    if (left < free) continue;
    free = left + wide + 3;
    context.fillStyle = RED;
    context.beginPath();
    context.roundRect(left, y, wide, 17, 3);
    context.fill();
    if (!before && !after) context.fillRect(x - 1, y, 2, RULER_HEIGHT - y);
    write(context, text, left + 6, y + 9, wide - 8, { colour: "#ffffff", size: 11.5, weight: 700 });
    taken.push([left, left + wide]);
    targets.ruler.push({ x: left, y, w: wide, h: 17, violations });
  }
  return taken;
}

/// The calls that show a violation, by name, where the flags leave room.
function drawCallNames(context, y, taken) {
  const calls = model.violations.flatMap((violation) => violation.operations).map((id) => model.operations.get(id));
  for (const call of new Set(calls)) {
    if (!call || call.from < view.from || call.from > view.to) continue;
    const x = toX(call.from), text = `#${call.id} ${call.verb}`;
    context.font = font(11, 600);
    const wide = context.measureText(text).width + 10;
    if (x + wide > view.width || taken.some(([from, to]) => x < to + 3 && x + wide > from - 3)) continue;
    taken.push([x, x + wide]);
    context.strokeStyle = RED;
    context.lineWidth = 1.2;
    context.beginPath();
    context.roundRect(x, y + 0.5, wide, 16, 3);
    context.stroke();
    context.fillStyle = RED;
    context.fillRect(x - 0.5, y, 1, RULER_HEIGHT - y);
    write(context, text, x + 5, y + 9, wide, { colour: RED, weight: 600 });
    targets.ruler.push({ x, y, w: wide, h: 17, call, named: true });
  }
}

function drawLanes() {
  const context = prepared(canvases.lanes, layout.height, layout.labels);
  context.fillStyle = "#f0f2f4";
  for (const at of ticks().all) context.fillRect(toX(at), 0, 1, layout.height);
  for (const phase of model.phases) {
    context.fillStyle = "#c5ccd3";
    context.fillRect(toX(phase.from), 0, 1, layout.height);
  }
  for (const { node, y, height } of layout.blocks) {
    for (const fault of node.faults) {
      if (fault.to === null || fault.to < view.from || fault.from > view.to) continue;
      context.globalAlpha = 0.28;
      context.fillStyle = REACH_COLOURS[fault.reach].fill;
      context.fillRect(toX(fault.from), y, toX(fault.to) - toX(fault.from), height);
      context.globalAlpha = 1;
    }
  }
  shadeGuilt(context);
  const guilty = [];
  for (const row of layout.rows) DRAW_ROW[row.type](context, row, guilty);
  for (const { node, y, height } of layout.blocks) drawNodeSigns(context, node, y, height);
  drawVerdicts(context);
  for (const { call, x, y, width, height } of guilty) drawGuilt(context, call, x, y, width, height, view.width);
}

/// Through all lanes: what went on while a call that shows a violation was under way.
function shadeGuilt(context) {
  const calls = model.violations.flatMap((violation) => violation.operations).slice(0, MOST_SHADES);
  for (const call of new Set(calls.map((id) => model.operations.get(id)))) {
    if (!call || call.to < view.from || call.from > view.to) continue;
    const [from, to] = [toX(call.from), toX(call.to)];
    context.fillStyle = "rgb(200 16 46 / 9%)";
    context.fillRect(from, 0, Math.max(1.5, to - from), layout.height);
    context.strokeStyle = "rgb(200 16 46 / 65%)";
    context.lineWidth = 1;
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(from, 0);
    context.lineTo(from, layout.height);
    context.stroke();
    context.setLineDash([]);
  }
}

/// Runs `paint` for each span in sight, at most one for each pixel and look:
/// thousands of calls are a handful of strokes when all are in sight.
function eachInSight(spans, look, least, paint) {
  const reached = new Map();
  for (let index = 0; index < spans.length; index += 1) {
    const span = spans[index];
    const to = span.to ?? span.from;
    if (span.from > view.to) break;
    if (to < view.from) continue;
    const x = toX(span.from), width = Math.max(least, toX(to) - x), kind = look(span);
    if (!span.shows && x + width <= (reached.get(kind) ?? -Infinity) + 0.7) continue;
    reached.set(kind, x + width);
    // A canvas loses precision far outside of itself.
    const left = Math.max(x, -50);
    paint(span, left, Math.min(x + width, view.width + 50) - left, index);
  }
}

const DRAW_ROW = {
  node(context, { node, y, height }) {
    eachInSight(node.states, (state) => state.state, 1, (state, x, width) => {
      drawState(context, state, x, y, width, height);
      targets.lanes.push({ x, y, w: width, h: height, node, state });
    });
  },
  faults(context, { spans, y, height }) {
    eachInSight(spans, (fault) => fault.number, 3, (fault, x, width, index) => {
      fault.room = (spans[index + 1] ? toX(spans[index + 1].from) : view.width) - x - 22;
      drawFault(context, fault, x, y, width, height);
      const left = fault.to === null ? x - 7 : x;
      targets.lanes.push({ x: left, y, w: Math.max(14, width), h: height, fault });
    });
  },
  group(context, { spans, y, height }) {
    eachInSight(spans, (role) => role.role + role.term, 1, (role, x, width) => {
      drawRole(context, role, x, y, width, height);
      targets.lanes.push({ x, y, w: width, h: height, role });
    });
  },
  calls(context, { spans, y, height }, guilty) {
    eachInSight(spans, (call) => call.state, 2, (call, x, width) => {
      drawCall(context, call, x, y, width, height);
      if (call.shows) guilty.push({ call, x, y, width, height });
      targets.lanes.push({ x, y, w: Math.max(4, width), h: height, call });
    });
  },
};

/// Stops and restarts, over everything else in their lane.
function drawNodeSigns(context, node, y, height) {
  for (const state of node.states) {
    if (state.to < view.from || state.from > view.to) continue;
    const x = toX(state.from);
    if (x < -20) continue;
    const stopped = state.state === "down" || (state.starts && state.boot !== "1");
    if (stopped) {
      context.fillStyle = state.state === "down" ? INK : "#22663f";
      context.fillRect(x - 0.5, y, 1, height);
    }
    drawStateSign(context, state, x, y, toX(state.to) - x, NODE_HEIGHT);
  }
}

/// Where promises broke, and where somebody pointed to.
function drawVerdicts(context) {
  for (const violation of model.violations) {
    const x = toX(violation.at);
    context.fillStyle = RED;
    context.fillRect(x - 1, 0, 2, layout.height);
    const block = violation.node !== null && layout.blocks.find(({ node }) => node.id === violation.node);
    if (!block) continue;
    context.strokeStyle = RED;
    context.lineWidth = 2.5;
    context.beginPath();
    context.arc(x, block.y + NODE_HEIGHT / 2, 9, 0, Math.PI * 2);
    context.stroke();
  }
  if (view.here !== null) {
    context.fillStyle = HERE;
    context.fillRect(toX(view.here) - 0.5, 0, 1.5, layout.height);
  }
}
