// What the run came to: its violations in words, and how to repeat it.
"use strict";

/// An element with properties and children; strings become text, never markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const inWords = (promise) => promise.replace(/[-_]+/g, " ");

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
