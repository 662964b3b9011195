// Everything around the timeline: verdict, pointing, legend, table, address.
"use strict";

/// An element with properties and children; strings become text, never markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const inWords = (promise) => promise.replace(/[-_]+/g, " ");

// ---- The verdict and the run ----

function callEntry(id) {
  const call = model.operations.get(id);
  if (!call) return make("li", {}, `#${id}, which the history does not hold`);
  const found = make("button", { type: "button", className: "link", textContent: `#${id} ${call.verb}` });
  found.addEventListener("click", () => showCall(call));
  const until = call.completed === null ? "never answered" : `answered at ${milliseconds(call.completed)} ms`;
  const said = `client ${call.client} on ${call.log} at ${milliseconds(call.from)} ms, ${until}: ${call.call} → ${call.answer}`;
  return make("li", {}, found, make("span", { className: "said", textContent: said, title: said }));
}

function violationCard(violation, index) {
  const where = violation.node === null ? "" : `, on node ${violation.node}`;
  const jump = make("button", { type: "button", textContent: "Show where it showed" });
  jump.addEventListener("click", () => showViolation(index));
  const actions = make("div", { className: "actions" }, jump);
  const calls = violation.operations.map((id) => model.operations.get(id)).filter(Boolean);
  if (calls.length) {
    const all = make("button", { type: "button", textContent: "Show all its calls" });
    all.addEventListener("click", () => {
      showAround(Math.min(...calls.map((call) => call.from)), Math.max(violation.at, ...calls.map((call) => call.to)));
      toChart();
    });
    actions.append(all);
  }
  const details = violation.details ?? violation.text;
  return make("article", { className: "violation" },
    make(index ? "h2" : "h1", {},
      `Broken promise: ${inWords(violation.promise)}`,
      make("span", { className: "when", textContent: `shown at ${milliseconds(violation.at)} ms${where}` })),
    violation.meaning ? make("p", { className: "meaning", textContent: violation.meaning }) : null,
    make("p", { className: "details", textContent: details }),
    calls.length || violation.operations.length
      ? make("ul", { className: "calls" }, ...violation.operations.map(callEntry)) : null,
    actions);
}

function fillHeader() {
  document.title = model.violations.length
    ? `Broken: ${inWords(model.violations[0].promise)} · seed ${data.seed}` : `Seed ${data.seed}`;
  $("verdict").append(...(model.violations.length
    ? model.violations.map(violationCard)
    : [make("div", { className: "kept" }, make("h1", { textContent: "No broken promise was found" }))]));
  const fact = (name, value) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }));
  $("facts").append(
    fact("Seed", data.seed), fact("Commit", data.commit || "not recorded"),
    fact("Lasted", `${milliseconds(data.end)} ms`), fact("Nodes", `${model.nodes.length}`),
    fact("Faults", `${model.faults.length}`), fact("Calls", `${model.operations.size}`));
  $("replay").textContent = data.replay;
  $("copy").addEventListener("click", copyReplay);
  for (const [name, value] of data.settings) {
    $("settings").tBodies[0].append(make("tr", {},
      make("th", { scope: "row", textContent: name }), make("td", { textContent: value })));
  }
  $("settings-box").hidden = !data.settings.length;
}

async function copyReplay() {
  const said = (text) => {
    $("copy").textContent = text;
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  };
  try {
    await navigator.clipboard.writeText(data.replay);
    said("Copied");
  } catch {
    // A browser may keep pages from files away from the clipboard.
    getSelection().selectAllChildren($("replay"));
    said(document.execCommand("copy") ? "Copied" : "Selected");
  }
}

// ---- Going somewhere ----

const toChart = () => $("chart").scrollIntoView({ block: "nearest" });

function showCall(call) {
  const span = Math.max(call.to - call.from, model.end / 100);
  view.here = call.from;
  showAround(call.from, Math.min(call.to, call.from + span), span * 1.5);
  toChart();
}

let shownViolation = -1;
function showViolation(index) {
  const { at } = model.violations[index];
  shownViolation = index;
  showAround(at, at, Math.max(model.end / 30, LEAST_SPAN));
  toChart();
}

const SHOW = {
  everything: () => show(...everything()),
  violation: () => model.violations.length && showViolation((shownViolation + 1) % model.violations.length),
  in: () => zoom(0.6),
  out: () => zoom(1 / 0.6),
  earlier: () => pan(-0.25 * (view.to - view.from)),
  later: () => pan(0.25 * (view.to - view.from)),
  fold() {
    const all = model.nodes.every(({ id }) => folded.has(id));
    for (const { id } of model.nodes) if (all) folded.delete(id); else folded.add(id);
    rearrange();
  },
};

function fillToolbar() {
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => SHOW[button.dataset.show]());
  }
  document.querySelector('[data-show="violation"]').disabled = !model.violations.length;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
    if (event.target.closest?.("input, #scroller") || event.ctrlKey || event.metaKey || event.altKey) return;
    const wanted = { 0: "everything", v: "violation", "+": "in", "=": "in", "-": "out", ArrowLeft: "earlier", ArrowRight: "later" };
    if (!wanted[event.key]) return;
    event.preventDefault();
    SHOW[wanted[event.key]]();
  });
  observers.push(() => {
    const step = (view.to - view.from) / 1000;
    const [from, to] = [Math.max(0, view.from), Math.min(model.end, view.to)].map((at) => milliseconds(at, step));
    $("range").textContent = `${from} – ${to} ms of ${milliseconds(model.end, step)}`;
  });
}

function rearrange() {
  layout = arrange();
  const all = model.nodes.length && model.nodes.every(({ id }) => folded.has(id));
  document.querySelector('[data-show="fold"]').textContent = all ? "Unfold the groups" : "Fold the groups";
  $("labels").replaceChildren(...layout.labels.map((label) => {
    const content = [make("span", { textContent: label.text, title: label.text }),
      label.more ? make("span", { className: "more", textContent: label.more }) : null];
    const element = make(label.folds === undefined ? "div" : "button", { className: label.className }, ...content);
    if (label.folds !== undefined) {
      element.type = "button";
      element.setAttribute("aria-expanded", String(!folded.has(label.folds)));
      element.addEventListener("click", () => {
        if (!folded.delete(label.folds)) folded.add(label.folds);
        rearrange();
      });
    }
    element.style.top = `${label.y}px`;
    element.style.height = `${label.height}px`;
    return element;
  }));
  redraw();
}

function resize() {
  const labels = view.printing ? LABELS_ON_PAPER : parseFloat(getComputedStyle($("lanes")).paddingLeft);
  view.width = Math.max(200, (view.printing ?? $("chart").clientWidth) - labels);
  redraw();
}

// ---- Pointing ----

function lines(target) {
  const span = ({ from, to }) => to === null || to === undefined
    ? `${milliseconds(from, 1)} ms` : `${milliseconds(from, 1)} – ${milliseconds(to, 1)} ms, ${milliseconds(to - from, 1)} long`;
  if (target.call) {
    const { call } = target;
    const when = call.completed === null ? `since ${milliseconds(call.from, 1)} ms` : span(call);
    return [`#${call.id} by client ${call.client} on ${call.log}: ${call.state}`, `${call.call}\n→ ${call.answer}`,
      call.shows ? `${when}\nShows a broken promise.` : when];
  }
  if (target.fault) {
    const { fault } = target;
    const struck = fault.nodes.length ? `nodes ${fault.nodes.join(", ")}` : "everything";
    return [`${fault.kind} (${fault.reach} fault ${fault.number})`, fault.details, `strikes ${struck}\n${span(fault)}`];
  }
  if (target.role) {
    const { role } = target;
    return [`${groupName(role.group)} on node ${role.node}: ${role.role} in term ${role.term}`, `replica ${role.replica}`, span(role)];
  }
  if (target.state) {
    const { state, node } = target;
    const told = { down: `down: ${state.how}`, up: "up", starting: "starting" }[state.state];
    return [`node ${node.id} ${told}`, state.boot ? `boot ${state.boot}` : "", span(state)];
  }
  if (target.phase) return [target.phase.name, target.phase.text, span(target.phase)];
  if (target.mark) return ["Reached for the first time", target.mark.text, span({ from: target.mark.at })];
  return ["Broken", target.violations.map((one) => one.text).join("\n\n"), span({ from: target.violations[0].at })];
}

function showTip(target, event, stays) {
  const [title, text, soft] = lines(target);
  const tip = $("tip");
  tip.replaceChildren(make("b", { textContent: title }), text, text ? "\n" : "", make("span", { className: "soft", textContent: soft }));
  tip.hidden = false;
  tip.classList.toggle("stays", stays);
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 12);
  const below = event.clientY + 16;
  const top = below + tip.offsetHeight > innerHeight ? Math.max(4, event.clientY - tip.offsetHeight - 10) : below;
  tip.style.left = `${Math.max(4, left) + scrollX}px`;
  tip.style.top = `${top + scrollY}px`;
}
function hideTip() {
  $("tip").hidden = true;
  $("tip").classList.remove("stays");
}

function pointedAt(which, event) {
  const { offsetX: x, offsetY: y } = event;
  const hits = targets[which].filter((one) => x >= one.x - 1 && x <= one.x + one.w + 1 && y >= one.y && y <= one.y + one.h);
  // The narrowest is the hardest to point at, so it is what is meant.
  return hits.sort((a, b) => a.w - b.w)[0];
}

function listenTo(canvas, which) {
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { x: event.clientX, y: event.clientY, from: view.from, to: view.to, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) {
      const target = pointedAt(which, event);
      canvas.classList.toggle("points", Boolean(target));
      if ($("tip").classList.contains("stays")) return;
      if (target) showTip(target, event, false); else hideTip();
      return;
    }
    const by = event.clientX - drag.x;
    if (Math.abs(by) + Math.abs(event.clientY - drag.y) > 4) drag.moved = true;
    if (!drag.moved) return;
    canvas.classList.add("dragged");
    hideTip();
    const time = (by / view.width) * (drag.to - drag.from);
    show(drag.from - time, drag.to - time);
    if (which === "lanes" && event.pointerType === "mouse") scrollBy(0, -event.movementY);
  });
  canvas.addEventListener("pointerup", (event) => {
    canvas.classList.remove("dragged");
    if (drag && !drag.moved) click(which, event);
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { if (!$("tip").classList.contains("stays")) hideTip(); });
  canvas.addEventListener("dblclick", (event) => zoom(0.35, toTime(event.offsetX)));
  canvas.addEventListener("wheel", (event) => {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan((sideways / view.width) * (view.to - view.from));
    } else if (which === "ruler" || event.ctrlKey || event.metaKey) {
      event.preventDefault();
      hideTip();
      const notches = event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3;
      zoom(1.3 ** Math.max(-3, Math.min(3, notches)), toTime(event.offsetX));
    }
  }, { passive: false });
}

function click(which, event) {
  const target = pointedAt(which, event);
  if (target?.named) {
    showCall(target.call);
    return;
  }
  if (target?.violations && (target.x <= 0 || target.x + target.w >= view.width)) {
    showViolation(model.violations.indexOf(target.violations[0]));
    return;
  }
  if (target) showTip(target, event, true); else hideTip();
  view.here = toTime(event.offsetX);
  table.scrollTo(view.here);
  redraw();
}

function listenToOverview() {
  const go = (event) => {
    const [least, most] = everything(), span = view.to - view.from;
    const at = least + (event.offsetX / view.width) * (most - least);
    const wide = span > (most - least) * 0.98 ? (most - least) / 8 : span;
    show(at - wide / 2, at + wide / 2);
  };
  canvases.overview.addEventListener("pointerdown", (event) => {
    canvases.overview.setPointerCapture(event.pointerId);
    go(event);
  });
  canvases.overview.addEventListener("pointermove", (event) => { if (event.buttons & 1) go(event); });
  canvases.overview.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.3 : 1 / 1.3);
  }, { passive: false });
}

// ---- The table of events ----

const table = {
  rowHeight: 24,
  chosen: null,
  found: data.events,
  topics: new Set(),

  fill() {
    const counts = new Map();
    for (const event of data.events) {
      counts.set(event.topic, (counts.get(event.topic) ?? 0) + 1);
      event.words = `${event.topic} ${event.text}`.toLowerCase();
    }
    for (const [topic, count] of counts) {
      const button = make("button", { type: "button", textContent: `${topic} ${count}` });
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        if (!this.topics.delete(topic)) this.topics.add(topic);
        button.setAttribute("aria-pressed", String(this.topics.has(topic)));
        this.filter();
      });
      $("topics").append(button);
    }
    $("search").addEventListener("input", () => this.filter());
    $("in-view").addEventListener("change", () => this.filter());
    $("scroller").addEventListener("scroll", () => this.render());
    let seen = "";
    observers.push(() => {
      const now = `${view.from} ${view.to}`;
      if ($("in-view").checked && now !== seen) this.filter();
      seen = now;
    });
    this.filter();
  },

  filter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const inView = $("in-view").checked;
    this.found = data.events.filter((event) =>
      (!this.topics.size || this.topics.has(event.topic)) &&
      (!inView || (event.at >= view.from && event.at <= view.to)) &&
      words.every((word) => event.words.includes(word)));
    $("rows").style.height = `${this.found.length * this.rowHeight}px`;
    const count = (number) => number.toString().replace(/\B(?=(\d{3})+$)/g, THIN_SPACE);
    $("count").textContent = `${count(this.found.length)} of ${count(data.events.length)} events`;
    this.render();
  },

  /// Only what can be seen becomes elements.
  render() {
    const most = Math.ceil($("scroller").clientHeight / this.rowHeight) + 12;
    const first = Math.max(0, Math.floor($("scroller").scrollTop / this.rowHeight) - 6);
    this.fillRows(this.found.slice(first, first + most), first);
  },

  /// Paper does not scroll: calls that show nothing are left out.
  renderForPaper() {
    const told = this.found.filter((event) => !event.operation || model.operations.get(event.operation)?.shows);
    this.fillRows(told.slice(0, MOST_ROWS_ON_PAPER), 0);
    $("count").textContent = "calls that show no broken promise are left out";
  },

  fillRows(events, first) {
    $("rows").replaceChildren(...events.map((event, index) => {
      const row = make("div", { className: `row topic-${event.topic}`, title: event.text },
        make("span", { textContent: milliseconds(event.at, 1) }),
        make("span", { textContent: event.topic }),
        make("span", { textContent: event.text }));
      row.setAttribute("role", "listitem");
      row.style.top = `${(first + index) * this.rowHeight}px`;
      row.classList.toggle("violation-row", event.topic === "violation");
      row.classList.toggle("shows", Boolean(event.operation && model.operations.get(event.operation)?.shows));
      row.classList.toggle("chosen", event === this.chosen);
      row.addEventListener("click", () => this.choose(event));
      return row;
    }));
  },

  choose(event) {
    this.chosen = event;
    this.render();
    centre(event.at);
  },

  scrollTo(at) {
    const index = this.found.findIndex((event) => event.at >= at);
    if (index < 0) return;
    this.chosen = this.found[index];
    $("scroller").scrollTop = (index - 4) * this.rowHeight;
    this.render();
  },
};

// ---- The legend ----

function fillLegend() {
  const swatch = (width, paint) => {
    const canvas = make("canvas", { width: width * 2, height: 36 });
    canvas.style.width = `${width}px`;
    canvas.style.height = "18px";
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    context.textBaseline = "middle";
    paint(context);
    return canvas;
  };
  const part = (title, ...entries) => $("legend").append(make("div", {}, make("strong", { textContent: title }),
    ...entries.map(([text, width, paint]) => make("span", {}, swatch(width, paint), text))));
  const role = (role) => (context) => drawRole(context, { role, term: "4" }, 0, 1, 26, 16);
  part("Role", ["leader", 26, role("leader")], ["follower", 26, role("follower")], ["learner", 26, role("learner")],
    ["a colour for each term", 36, (context) => TERMS.slice(0, 4).forEach(([strong], index) => {
      context.fillStyle = strong;
      context.fillRect(index * 9, 3, 8, 12);
    })]);
  const stop = (how) => [how, 18, (context) => stopSign(context, how, 9, 9)];
  part("Node", ["up", 24, (context) => drawState(context, { state: "up", starts: true }, 0, 0, 24, 18)],
    ["down", 24, (context) => drawState(context, { state: "down" }, 0, 0, 24, 18)],
    stop("killed"), stop("power lost"), stop("failed"), stop("shut down"),
    ["started again", 14, (context) => restartSign(context, 2, 9)]);
  part("Fault", ...Object.keys(REACH_COLOURS).map((reach) => [reach, 16, (context) => faultSign(context, reach, 8, 9)]));
  const call = (state) => [state, 24, (context) => drawCall(context, { state, id: "", call: "" }, 0, 2, 24, 14)];
  part("Call", ...Object.keys(CALLS).map(call),
    ["shows a broken promise", 30, (context) => {
      drawCall(context, { state: "done", id: "", call: "" }, 2, 2, 25, 14);
      context.strokeStyle = RED;
      context.lineWidth = 2.5;
      context.strokeRect(1.5, 2, 26, 14);
    }]);
  part("Moment", ["broken promise", 4, (context) => {
    context.fillStyle = RED;
    context.fillRect(1, 0, 2.5, 18);
  }], ["rare state reached", 12, (context) => {
    context.fillStyle = "#46627e";
    context.fillRect(1, 1, 1.2, 16);
    context.beginPath();
    context.moveTo(1, 1); context.lineTo(10, 5); context.lineTo(1, 9);
    context.fill();
  }]);
}

// ---- The address: a part of the run can be passed on as a link ----

function follow(address) {
  const wanted = new URLSearchParams(address.slice(1));
  const times = (wanted.get("ms") ?? "").split("-").map(Number);
  const call = model.operations.get(wanted.get("call") ?? "");
  const violation = Number(wanted.get("violation")) - 1;
  if (times.length === 2 && times[0] < times[1]) show(times[0] * 1000, times[1] * 1000);
  else if (call) showCall(call);
  else if (model.violations[violation]) showViolation(violation);
}

let remembered = 0;
observers.push(() => {
  clearTimeout(remembered);
  remembered = setTimeout(() => {
    const [from, to] = [Math.max(0, view.from), view.to].map((at) => (at / 1000).toFixed(3));
    const [least, most] = everything();
    const all = view.to - view.from >= (most - least) * 0.999;
    try {
      history.replaceState(null, "", all ? location.pathname + location.search : `#ms=${from}-${to}`);
    } catch {
      // Not every place that a page is opened from has an address to change.
    }
  }, 400);
});

// ---- Paper ----

/// Paper is narrower than a window: everything is drawn again to its width.
const PAPER_WIDTH = 1040, PAPER_HEIGHT = 680, MOST_ROWS_ON_PAPER = 200;
addEventListener("beforeprint", () => {
  // A page holds all lanes, unless they would be too small to read.
  const scale = Math.min(1, Math.max(0.5, PAPER_HEIGHT / (layout.height + OVERVIEW_HEIGHT + RULER_HEIGHT)));
  $("chart").style.zoom = scale;
  view.printing = PAPER_WIDTH / scale;
  resize();
  draw();
  table.renderForPaper();
});
addEventListener("afterprint", () => {
  $("chart").style.zoom = "";
  view.printing = undefined;
  resize();
  draw();
  table.filter();
});

AXIS_LABELS.forEach(({ text, y, height }, index) => {
  const label = make("span", { textContent: text });
  label.style.top = `${index ? OVERVIEW_HEIGHT + y : y}px`;
  label.style.lineHeight = `${height}px`;
  $("axis-labels").append(label);
});
fillHeader();
fillToolbar();
fillLegend();
listenTo(canvases.ruler, "ruler");
listenTo(canvases.lanes, "lanes");
listenToOverview();
new ResizeObserver(resize).observe($("chart"));
resize();
rearrange();
table.fill();
follow(location.hash);
addEventListener("hashchange", () => follow(location.hash));
