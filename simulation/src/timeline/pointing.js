// Pointing at the timeline: details, dragging, wheels.
"use strict";

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
