// Which lane lies where: from top to bottom, in pixels.
"use strict";

const NODE_HEIGHT = 22, GROUP_HEIGHT = 16, FAULT_HEIGHT = 16, CALL_HEIGHT = 14, GAP = 10;
/// A pending call holds its row to the end of the run: there must be an end to rows.
const MOST_ROWS = 14;
/// More lanes than this are drawn folded at first.
const MOST_LANES = 60;

const folded = new Set();
if (model.nodes.reduce((sum, node) => sum + node.groups.size, 0) > MOST_LANES) {
  for (const { id } of model.nodes) folded.add(id);
}

/// Spreads spans over as few rows as keep them apart: their rows, row by row.
function spread(spans, least, most) {
  const rows = [], ends = [];
  for (const span of [...spans].sort((a, b) => a.from - b.from)) {
    let row = ends.findIndex((end) => end <= span.from);
    if (row < 0) row = ends.length < most ? ends.length : most - 1;
    ends[row] = Math.max(ends[row] ?? 0, (span.to ?? span.from) + least);
    (rows[row] ??= []).push(span);
  }
  return rows;
}

/// All lanes: `rows` to draw, `labels` beside them, `blocks` that belong to a node.
function arrange() {
  const rows = [], labels = [], blocks = [];
  let y = 6;
  const add = (height, row) => {
    rows.push({ y, height, ...row });
    y += height;
  };
  const addFaults = (faults) => {
    // Faults of one moment need room for their icon.
    for (const spans of spread(faults, model.end / 200, 6)) add(FAULT_HEIGHT, { type: "faults", spans });
  };

  if (model.everywhere.length) {
    labels.push({ y, height: FAULT_HEIGHT, text: "everywhere", className: "lane" });
    addFaults(model.everywhere);
    y += GAP;
  }
  for (const node of model.nodes) {
    const top = y, isFolded = folded.has(node.id), groups = sorted(node.groups);
    labels.push({
      y, height: NODE_HEIGHT, text: `node ${node.id}`, className: "lane",
      more: isFolded && groups.length ? `${groups.length} groups` : "", folds: groups.length ? node.id : undefined,
    });
    add(NODE_HEIGHT, { type: "node", node });
    addFaults(node.faults);
    if (!isFolded) {
      for (const group of groups) {
        labels.push({ y, height: GROUP_HEIGHT, text: groupName(group.id), className: "group" });
        add(GROUP_HEIGHT, { type: "group", spans: group.roles });
      }
    }
    blocks.push({ node, y: top, height: y - top });
    y += GAP;
  }
  for (const client of model.clients) {
    const spans = spread(client.operations, 0, MOST_ROWS);
    labels.push({
      y, height: Math.max(CALL_HEIGHT + 2, 18), text: `client ${client.id}`, className: "lane",
      more: `${client.operations.length} calls`,
    });
    for (const row of spans) add(CALL_HEIGHT, { type: "calls", spans: row });
    y += Math.max(GAP, 20 - CALL_HEIGHT * spans.length);
  }
  return { rows, labels, blocks, height: Math.max(y, 60) };
}
