// Elements, tables, numbers and times. Data of the service becomes text, never markup.

const $ = (id) => document.getElementById(id);

/** An element with attributes, listeners (`onclick`) and children. String children become text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

const drawn = new WeakMap();
const textOrDash = (text) => [text === null ? "–" : String(text)];

/** Draws a JSON value only if it has changed, so that focus, selection and open details stay. */
function draw(element, value, look = textOrDash) {
  const said = JSON.stringify(value);
  if (drawn.get(element) === said) return;
  drawn.set(element, said);
  const hadFocus = element.contains(document.activeElement);
  element.replaceChildren(...look(value));
  if (hadFocus) element.querySelector("button, a")?.focus();
}

/** A table that keeps its rows by key. A column has a heading, a class, and a function that fills a cell. */
class Table {
  constructor(section, columns, keyOf) {
    Object.assign(this, { columns, keyOf, body: $(section).querySelector("tbody") });
    const heading = ([text, kind]) => h("th", { scope: "col", class: kind }, text);
    $(section).querySelector("thead tr").append(...columns.map(heading));
  }

  /** An item may add its own columns. */
  show(items) {
    const keys = items.map((item) => String(this.keyOf(item)));
    const kept = new Map([...this.body.rows].map((row) => [row.dataset.key, row]));
    for (const [key, row] of kept) if (!keys.includes(key)) row.remove();
    items.forEach((item, at) => {
      const columns = item.columns ?? this.columns;
      const row = kept.get(keys[at]) ?? this.#row(keys[at], columns, !item.columns);
      if (this.body.rows[at] !== row) this.body.insertBefore(row, this.body.rows[at] ?? null);
      columns.forEach(([, , fill], nth) => fill(row.cells[nth], item));
    });
  }

  #row(key, columns, isNamed) {
    const cells = columns.map(([, kind], nth) =>
      isNamed && nth === 0 ? h("th", { scope: "row", class: kind }) : h("td", { class: kind }));
    return h("tr", { "data-key": key }, cells);
  }
}

const unseen = (text) => h("span", { class: "unseen" }, text);
const state = (word) => h("span", { class: `state ${word}` }, word);
const button = (text, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, text);

/** A link to the page of a problem code. It opens a new tab, because this page would lose its curves. */
function whatToDo(code) {
  return h("a", { href: `/problems/${encodeURIComponent(code)}`, target: "_blank", rel: "noopener" }, "what to do");
}

/** How far the service's clock is ahead of this one, from the Date headers. Ages are computed by the service's clock. */
let aheadMs = 0;

const secondsSince = (time) => (Date.now() + aheadMs - Date.parse(time)) / 1000;
const count = (n) => n.toLocaleString("en");
const rate = (n) => `${n < 10 ? Number(n.toFixed(n < 1 ? 2 : 1)) : count(Math.round(n))}/s`;
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");
const bytes = (n) => (n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : `${(n / 1e6).toFixed(1)} MB`);

function span(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 120) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  const [size, unit] = seconds < 7_200 ? [60, "min"] : seconds < 172_800 ? [3_600, "h"] : [86_400, "d"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** The age of a time, or the time until it. In whole seconds, so that it does not flicker. */
function age(time) {
  const seconds = Math.floor(Math.abs(secondsSince(time)));
  return seconds === 0 ? "0 s" : span(seconds);
}

/** A short text with the full time as its tooltip. */
const timed = ([text, time]) => [h("time", { datetime: time, title: `${new Date(time).toLocaleString()} · ${time}` }, text)];
