// The table of events: everything as text, to search and to go from.
"use strict";

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
