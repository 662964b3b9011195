// The run as lanes and spans, from the events and operations in the page.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

/// Numbers come as text and may exceed what a float holds.
const byNumber = (a, b) => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
const sorted = (map) => [...map.values()].sort((a, b) => byNumber(a.id, b.id));

const groupNames = new Map(data.groups);
const groupName = (group) => groupNames.get(group) ?? `log ${group}`;

/// What a kind of fault strikes. The order decides where words of two reaches
/// meet: a crash while a snapshot is installed is a node's, a slow disk a disk's.
const REACHES = [
  ["node", /power|kill|crash|stop|shut|pause|clock|skew|restart|reboot|cpu/],
  ["operation", /member|learner|voter|transfer|trim|purge|snapshot|install|upgrade|version|replace|recover/],
  ["disk", /disk|sync|torn|tear|eio|enospc|full|flip|corrupt|misdirect|write|read-error|stale|sector|io-error/],
  ["network", /./],
];
const reachOf = (kind) => REACHES.find(([, words]) => words.test(kind.toLowerCase()))?.[0] ?? "network";

const model = (() => {
  const end = Math.max(data.end, 1);
  const nodes = new Map(), clients = new Map(), faults = new Map(), operations = new Map();
  const phases = [], marks = [], violations = [];

  const node = (id) => {
    if (!nodes.has(id)) nodes.set(id, { id, states: [], groups: new Map(), faults: [] });
    return nodes.get(id);
  };
  const client = (id) => {
    if (!clients.has(id)) clients.set(id, { id, operations: [] });
    return clients.get(id);
  };
  const group = (of, id) => {
    if (!of.groups.has(id)) of.groups.set(id, { id, roles: [] });
    return of.groups.get(id);
  };
  /// The span before ends where the next one begins.
  const follow = (spans, next) => {
    const last = spans.at(-1);
    if (last && last.to === end && last.from <= next.from) last.to = next.from;
    spans.push({ ...next, to: end });
  };

  for (const operation of data.operations) operations.set(operation.id, operation);

  data.events.forEach((event, index) => {
    event.index = index;
    const { at } = event;
    switch (event.topic) {
      case "phase":
        follow(phases, { from: at, name: event.phase, text: event.text });
        break;
      case "node": {
        const lane = node(event.node);
        const boot = event.boot ?? lane.states.at(-1)?.boot;
        follow(lane.states, { from: at, state: event.state, how: event.how, boot, starts: event.state === "starting" });
        if (event.state !== "up") {
          for (const { roles } of lane.groups.values()) if (roles.length) roles.at(-1).to = Math.min(roles.at(-1).to, at);
        }
        break;
      }
      case "role": {
        const lane = node(event.node);
        // A run may record roles only: such a node is up from there on.
        if (!lane.states.length) follow(lane.states, { from: at, state: "up" });
        const { roles } = group(lane, event.group), last = roles.at(-1), role = event.role.toLowerCase();
        // Said again, nothing has changed.
        if (last?.to === end && last.role === role && last.term === event.term && last.replica === event.replica) break;
        follow(roles, {
          from: at, role, term: event.term, replica: event.replica,
          node: event.node, group: event.group,
        });
        break;
      }
      case "fault":
        if (event.begins !== undefined) {
          const fault = {
            number: event.begins, kind: event.kind, reach: reachOf(event.kind), nodes: event.nodes,
            details: event.details, from: at, to: null,
          };
          faults.set(event.begins, fault);
          for (const id of event.nodes) node(id);
        } else if (faults.has(event.ends)) {
          faults.get(event.ends).to = at;
        }
        break;
      case "call":
        // Calls are drawn from the operations; one that is missing there still shows.
        if (!operations.has(event.operation)) {
          operations.set(event.operation, {
            id: event.operation, client: event.client, log: event.log, verb: "", call: event.call,
            invoked: at, completed: null, state: "pending", answer: "no answer yet", pieced: true,
          });
        }
        break;
      case "answer": {
        const operation = operations.get(event.operation);
        if (operation?.pieced) Object.assign(operation, { completed: at, state: event.answer, answer: event.details });
        break;
      }
      case "mark":
        marks.push({ at, text: event.mark });
        break;
      case "violation": {
        if (event.node !== null) node(event.node);
        const known = data.violations.some((one) => `${one.promise}: ${one.details}` === event.text);
        if (!known) violations.push({ at, promise: event.promise, text: event.text, node: event.node, operations: [] });
        break;
      }
    }
  });

  for (const one of data.violations) violations.push({ ...one, text: `${one.promise}: ${one.details}` });
  violations.sort((a, b) => a.at - b.at);

  const guilty = new Set(violations.flatMap((violation) => violation.operations));
  for (const operation of operations.values()) {
    operation.from = operation.invoked;
    operation.to = operation.completed ?? end;
    operation.shows = guilty.has(operation.id);
    client(operation.client).operations.push(operation);
  }
  for (const lane of clients.values()) lane.operations.sort((a, b) => a.from - b.from || byNumber(a.id, b.id));

  const everywhere = [];
  for (const fault of faults.values()) {
    if (!fault.nodes.length) everywhere.push(fault);
    for (const id of new Set(fault.nodes)) node(id).faults.push(fault);
  }

  return {
    end, phases, marks, violations, operations, everywhere,
    faults: [...faults.values()], nodes: sorted(nodes), clients: sorted(clients),
  };
})();

const THIN_SPACE = "\u2009";

/// Microseconds as milliseconds, with as many decimals as `step` needs.
function milliseconds(micros, step = 1000) {
  const decimals = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
  const [whole, part] = (micros / 1000).toFixed(decimals).split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, THIN_SPACE) + (part ? `.${part}` : "");
}
