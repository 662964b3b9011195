// Paint: what a span looks like. Red is for broken promises and nothing else.
"use strict";

const INK = "#1d2329", SOFT = "#5a6470", LINE = "#d9dee3", RED = "#c8102e", HERE = "#0b57a4";

/// A term's colours: as leader, as follower. Neighbours in the list differ to
/// the colour-blind too, by lightness; the number is printed all the same.
const TERMS = [
  ["#2a6cb0", "#d5e5f5"], ["#33804c", "#d6ecdc"], ["#7a4fb0", "#e6dcf4"], ["#77731a", "#eeecc6"],
  ["#14798a", "#cdebf0"], ["#8a5a34", "#f0e0d2"], ["#3f479e", "#dcdff5"],
];
const termColours = (term) => TERMS[Number(BigInt(term) % BigInt(TERMS.length))];

const REACH_COLOURS = {
  network: { ink: "#a04a06", fill: "#fbe0c6" },
  node: { ink: "#3b4148", fill: "#dde0e4" },
  disk: { ink: "#8a1d76", fill: "#f3d3ed" },
  operation: { ink: "#17605f", fill: "#cfe9e6" },
};

const PHASE_COLOURS = {
  founding: "#e9edf1", chaos: "#fbe6cf", healing: "#dcebdf", liveness: "#d9e8f4", judgement: "#e8e0f2",
};

const CALLS = {
  done: { fill: "#9db1c4", edge: "#6c8297", ink: "#16222d" },
  failed: { fill: "#ffffff", edge: "#7c858e", ink: "#3b444c" },
  unknown: { fill: "#f6c445", edge: "#8f6500", ink: "#3d2b00" },
  pending: { fill: "#fdf3d6", edge: "#a88a2a", ink: "#3d2b00" },
};

const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif';
const font = (size, weight = 400) => `${weight} ${size}px ${SANS}`;

/// Diagonal lines of `ink` over `ground`.
function hatch(context, ink, ground, spacing = 6) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = spacing * 2;
  const pen = tile.getContext("2d");
  pen.fillStyle = ground;
  pen.fillRect(0, 0, tile.width, tile.height);
  pen.strokeStyle = ink;
  pen.lineWidth = 2;
  for (let x = -2 * tile.width; x <= 2 * tile.width; x += spacing * 2) {
    pen.moveTo(x, tile.height);
    pen.lineTo(x + tile.height, 0);
  }
  pen.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(0.5));
  return pattern;
}

/// Hatches are made once for each canvas.
const hatches = new WeakMap();
function hatched(context, ink, ground) {
  if (!hatches.has(context)) hatches.set(context, new Map());
  const made = hatches.get(context), key = ink + ground;
  if (!made.has(key)) made.set(key, hatch(context, ink, ground));
  return made.get(key);
}

/// Text from `x` on where all of it fits into `width`, or as much of it as says
/// something; tells whether anything did.
function write(context, text, x, y, width, { colour = INK, size = 11, weight = 400 } = {}) {
  if (width < size * 0.6) return false;
  context.font = font(size, weight);
  let shown = text.length > 200 ? text.slice(0, 200) : text;
  const full = context.measureText(shown).width;
  if (full > width) {
    const letters = Math.floor((shown.length * width) / full) - 2;
    if (letters < 4) return false;
    shown = `${shown.slice(0, letters)}…`;
  }
  context.fillStyle = colour;
  context.fillText(shown, x, y);
  return true;
}

/// The sign of what a fault strikes, in a square of `size` around `x`, `y`.
function faultSign(context, reach, x, y, size = 12) {
  const { ink } = REACH_COLOURS[reach];
  const half = size / 2;
  context.save();
  context.translate(x, y);
  context.fillStyle = ink;
  context.beginPath();
  context.roundRect(-half, -half, size, size, 2.5);
  context.fill();
  context.scale(size / 12, size / 12);
  context.strokeStyle = context.fillStyle = "#ffffff";
  context.lineWidth = 1.4;
  context.beginPath();
  if (reach === "network") {
    // Two ends of a line that is cut.
    context.moveTo(-4, 0); context.lineTo(-1.4, 0);
    context.moveTo(1.4, 0); context.lineTo(4, 0);
    context.moveTo(-1.4, -3); context.lineTo(-1.4, 3);
    context.moveTo(1.4, -3); context.lineTo(1.4, 3);
  } else if (reach === "node") {
    // A machine.
    context.rect(-3.5, -3.5, 7, 2.8);
    context.rect(-3.5, 0.9, 7, 2.8);
  } else if (reach === "disk") {
    // A stack of platters.
    context.ellipse(0, -2.6, 3.6, 1.5, 0, 0, Math.PI * 2);
    context.moveTo(-3.6, -2.6); context.lineTo(-3.6, 2.6);
    context.ellipse(0, 2.6, 3.6, 1.5, 0, Math.PI, 0, true);
    context.lineTo(3.6, -2.6);
  } else {
    // An arrow: somebody asked for it.
    context.moveTo(-3.5, 0); context.lineTo(3.2, 0);
    context.moveTo(0.4, -2.8); context.lineTo(3.2, 0); context.lineTo(0.4, 2.8);
  }
  context.stroke();
  context.restore();
}

/// How a node stopped, as a sign around `x`, `y`.
function stopSign(context, how, x, y) {
  context.save();
  context.translate(x, y);
  context.fillStyle = INK;
  context.beginPath();
  context.arc(0, 0, 8, 0, Math.PI * 2);
  context.fill();
  context.strokeStyle = context.fillStyle = "#ffffff";
  context.lineWidth = 2;
  context.beginPath();
  if (how === "killed") {
    context.moveTo(-3, -3); context.lineTo(3, 3);
    context.moveTo(3, -3); context.lineTo(-3, 3);
    context.stroke();
  } else if (how === "power lost") {
    // A bolt.
    context.moveTo(1.5, -6); context.lineTo(-4, 1); context.lineTo(-0.5, 1);
    context.lineTo(-1.5, 6); context.lineTo(4, -1); context.lineTo(0.5, -1);
    context.fill();
  } else if (how === "failed") {
    context.moveTo(0, -4.5); context.lineTo(0, 1);
    context.moveTo(0, 2.8); context.lineTo(0, 4.8);
    context.stroke();
  } else {
    context.fillRect(-3, -3, 6, 6);
  }
  context.restore();
}

/// A node starts again.
function restartSign(context, x, y) {
  context.fillStyle = "#22663f";
  context.beginPath();
  context.moveTo(x, y - 6.5);
  context.lineTo(x + 10, y);
  context.lineTo(x, y + 6.5);
  context.fill();
}

function drawState(context, span, x, y, width, height) {
  const middle = y + height / 2;
  if (span.state === "down") {
    context.fillStyle = hatched(context, "#c3c9cf", "#ffffff");
    context.fillRect(x, y + 3, width, height - 6);
    context.strokeStyle = "#aeb6be";
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 3.5, Math.max(0, width - 1), height - 7);
    return;
  }
  context.fillStyle = span.state === "up" ? "#e2e7ec" : "#f2f4f6";
  context.fillRect(x, y + 3, width, height - 6);
  context.fillStyle = span.state === "up" ? "#6f7f8f" : "#b7c1ca";
  context.fillRect(x, y + 3, width, 2);
  // Where a boot is named, its sign says that it is up.
  if (span.starts || (span.boot ?? "1") !== "1") return;
  const from = Math.max(x, 0) + 6;
  write(context, "up", from, middle + 1.5, x + width - from - 4, { colour: SOFT });
}

/// What is to be seen over its neighbours at every scale.
function drawStateSign(context, span, x, y, width, height) {
  const middle = y + height / 2;
  if (span.state === "down") {
    stopSign(context, span.how, x, middle);
    const room = width - 26, label = span.how ?? "down";
    context.font = font(11, 600);
    const needed = context.measureText(label).width;
    if (room > needed + 4) {
      context.fillStyle = "#ffffff";
      context.fillRect(x + 11, middle - 7, needed + 6, 14);
      write(context, label, x + 14, middle + 0.5, room, { weight: 600 });
    }
  } else if (span.starts && span.boot !== "1") {
    restartSign(context, x, middle);
    write(context, `boot ${span.boot}`, x + 13, middle + 1, width + 40, { colour: "#22663f", weight: 600 });
  }
}

function drawRole(context, span, x, y, width, height) {
  const [strong, light] = termColours(span.term);
  const leads = span.role === "leader";
  context.fillStyle = leads ? strong : span.role === "learner" ? hatched(context, strong, light) : light;
  context.fillRect(x, y + 1, width, height - 2);
  if (!leads) {
    context.fillStyle = strong;
    context.fillRect(x, y + height - 2.5, width, 1.5);
  }
  context.fillStyle = "#ffffff";
  if (width > 3) context.fillRect(x, y + 1, 1, height - 2);
  const style = leads ? { colour: "#ffffff", weight: 600 } : { colour: strong };
  // Words stay in sight while any of the span is.
  const from = Math.max(x, 0) + 5, room = x + width - from - 2;
  if (span.role === "learner" && room > 16) {
    context.fillStyle = light;
    context.fillRect(from - 2, y + 2, Math.min(room, 62), height - 5);
  }
  const words = leads ? [`leader, term ${span.term}`] : span.role === "learner" ? [`learner ${span.term}`] : [];
  for (const text of [...words, `t${span.term}`, span.term]) {
    context.font = font(11, style.weight ?? 400);
    if (context.measureText(text).width <= room) {
      write(context, text, from, y + height / 2 + 0.5, room + 1, style);
      break;
    }
  }
}

function drawFault(context, fault, x, y, width, height) {
  const { ink, fill } = REACH_COLOURS[fault.reach];
  if (fault.to !== null) {
    context.fillStyle = fill;
    context.fillRect(x, y + 1, width, height - 3);
    context.fillStyle = ink;
    context.fillRect(x, y + height - 3.5, width, 1.5);
    context.fillRect(x, y + 1, 1.5, height - 3);
    context.fillRect(x + width - 1.5, y + 1, 1.5, height - 3);
  }
  // The sign stays in sight while any of the span is.
  const sign = Math.max(x, 0) + 7;
  faultSign(context, fault.reach, fault.to === null ? x : sign, y + height / 2 - 0.5);
  const from = fault.to === null ? x + 10 : sign + 10;
  const room = fault.to === null ? fault.room : x + width - from - 3;
  const told = room > 220 && fault.details ? `${fault.kind} · ${fault.details}` : fault.kind;
  write(context, told, from, y + height / 2, room, { colour: ink, weight: fault.to === null ? 600 : 400 });
}

function drawCall(context, call, x, y, width, height) {
  const look = CALLS[call.state];
  const top = y + 1.5, tall = height - 3;
  context.fillStyle = call.state === "unknown" ? hatched(context, "#e0a100", look.fill) : look.fill;
  context.fillRect(x, top, width, tall);
  if (width > 3) {
    context.strokeStyle = look.edge;
    context.lineWidth = 1;
    if (call.state === "pending") context.setLineDash([3, 2]);
    context.strokeRect(x + 0.5, top + 0.5, width - 1, tall - 1);
    context.setLineDash([]);
  } else if (call.state === "failed") {
    context.fillStyle = look.edge;
    context.fillRect(x, top, 1, tall);
  }
  if (call.state === "failed" && width > 12) {
    context.strokeStyle = look.edge;
    context.lineWidth = 1.3;
    context.beginPath();
    context.moveTo(x + width - 8, top + 3); context.lineTo(x + width - 3, top + tall - 3);
    context.moveTo(x + width - 3, top + 3); context.lineTo(x + width - 8, top + tall - 3);
    context.stroke();
  }
  const from = Math.max(x, 0) + 4, room = x + width - from - (call.state === "failed" ? 12 : 4);
  if (room < 16 || !call.id) return;
  if (call.state === "unknown" && room > 30) {
    context.fillStyle = look.fill;
    context.fillRect(from - 2, top + 1, Math.min(room + 2, 34 + call.call.length * 5.5), tall - 2);
  }
  const options = { colour: look.ink, size: 10.5 };
  const told = [`#${call.id} ${call.call} → ${call.answer}`, `#${call.id} ${call.verb}`, `#${call.id}`];
  context.font = font(10.5);
  const fitting = told.slice(1).find((text) => context.measureText(text).width <= room);
  if (room > 190) write(context, told[0], from, y + height / 2 + 0.5, room, options);
  else if (fitting) write(context, fitting, from, y + height / 2 + 0.5, room + 1, options);
}

/// A call that shows a violation: outlined, and named beside.
function drawGuilt(context, call, x, y, width, height, rightEdge) {
  context.strokeStyle = RED;
  context.lineWidth = 2.5;
  context.strokeRect(x - 1.5, y + 0.5, Math.max(width, 5) + 3, height - 1);
  const text = `#${call.id}`;
  context.font = font(11, 700);
  const wide = context.measureText(text).width + 8;
  if (width > wide + 40) return;
  const left = x + width + wide + 6 > rightEdge ? x - wide - 3 : x + Math.max(width, 5) + 3;
  context.fillStyle = RED;
  context.beginPath();
  context.roundRect(left, y - 0.5, wide, height + 1, 3);
  context.fill();
  context.fillStyle = "#ffffff";
  context.fillText(text, left + 4, y + height / 2 + 0.5);
}
