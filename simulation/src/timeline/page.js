// Everything else around the timeline: buttons, legend, address, paper.
"use strict";

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
