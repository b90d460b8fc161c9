// Score against its limits, and its trend. Colours come from the style sheet.

import { h, svg } from "./dom.js";
import { number, t } from "./texts.js";
import { RESULTS } from "./verdict.js";

/** A bar with the zones of OK, REVIEW and NG, and a mark at the score. */
export function scoreBar({ score, threshold, ng_above: ng }) {
  if (score === null || threshold === null) return h("p", { class: "muted" }, t("score.none"));
  const upper = ng ?? threshold;
  const end = Math.max(2 * upper, 1.15 * Math.min(score, 3 * upper));
  const percent = (value) => `${(100 * Math.min(value, end)) / end}%`;
  const zone = (name, from, to) =>
    to > from &&
    svg("rect", {
      class: `zone zone-${name}`,
      x: percent(from),
      width: `${(100 * (to - from)) / end}%`,
      y: 0,
      height: "100%",
    });
  const line = (value) =>
    svg("line", { class: "limit", x1: percent(value), x2: percent(value), y1: 0, y2: "100%" });
  const bar = svg(
    "svg",
    {
      class: "score-zones",
      role: "img",
      "aria-label": t("score.described", {
        score: number(score),
        ok: number(threshold),
        ng: number(upper),
      }),
    },
    [zone("ok", 0, threshold), zone("review", threshold, upper), zone("ng", upper, end)].filter(
      Boolean,
    ),
    line(threshold),
    line(upper),
    svg("line", { class: "score-mark", x1: percent(score), x2: percent(score), y1: 0, y2: "100%" }),
    svg("circle", { class: "score-mark", cx: percent(score), cy: "50%", r: 7 }),
  );
  return h(
    "div",
    { class: "score-bar" },
    h(
      "p",
      { class: "score-figures" },
      h("strong", {}, number(score)),
      h("span", {}, t("score.limits", { ok: number(threshold), ng: number(upper) })),
    ),
    bar,
  );
}

/** The trend of scores with both limits, as rows [id, score, threshold, ng_above, result]. */
export class Trend {
  constructor() {
    this.rows = [];
    this.plot = svg("svg", { role: "img" });
    this.element = h("div", { class: "trend" }, this.plot);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  show(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.drawing);
    this.drawing = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const rows = this.rows.filter((row) => row[1] !== null);
    if (!rows.length || width < 60 || height < 30) return this.plot.replaceChildren();
    const [left, right, top, bottom] = [44, width - 8, 6, height - 18];
    const limits = rows.flatMap((row) => row.slice(2, 4)).filter((value) => value !== null);
    const highest = Math.max(...rows.map((row) => row[1]));
    const end = Math.max(
      1.1 * Math.max(...limits, 0),
      Math.min(1.05 * highest, 2.2 * Math.max(...limits, highest / 2.2)),
    );
    const lowest = Math.min(...rows.map((row) => row[1]), ...limits);
    const start = lowest > end / 3 ? lowest - 0.1 * (end - lowest) : 0;
    const x = (i) => left + ((right - left) * (i + 0.5)) / Math.max(rows.length, 20);
    const y = (value) => bottom - ((bottom - top) * (Math.min(value, end) - start)) / (end - start);
    const step = (column) =>
      rows
        .map((row, i) =>
          row[column] === null ? "" : `M${x(i - 0.5)} ${y(row[column])}H${x(i + 0.5)}`,
        )
        .join("");
    const dots = (result) =>
      rows
        .map((row, i) => (row[4] === result ? `M${x(i).toFixed(1)} ${y(row[1]).toFixed(1)}h0` : ""))
        .join("");
    const path = (d, name) => svg("path", { d, class: name });
    const label = (value, text = number(value, 2)) =>
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text);
    const last = rows.at(-1);
    const marks =
      last[2] !== null && y(last[2]) - y(last[3] ?? last[2]) < 12
        ? [last[3] ?? last[2]]
        : [last[2], last[3]];
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.setAttribute("aria-label", t("trend.described", { n: rows.length }));
    this.plot.replaceChildren(
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      path(step(2), "trend-ok-limit"),
      path(step(3), "trend-ng-limit"),
      path(
        rows.map((row, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(row[1]).toFixed(1)}`).join(""),
        "trend-line",
      ),
      ...RESULTS.map((result) => path(dots(result), `dot dot-${result}`)),
      ...marks.filter((value) => value !== null).map((value) => label(value)),
      svg("text", { x: left, y: height - 4 }, t("trend.oldest", { n: rows.length })),
      svg("text", { x: right, y: height - 4, "text-anchor": "end" }, t("trend.newest")),
    );
    return undefined;
  }

  close() {
    cancelAnimationFrame(this.drawing);
    this.observer.disconnect();
  }
}

/** A share with its 95 % interval on a scale of 0 to `end`. */
export function interval(value, low, high, end) {
  const at = (v) => `${(100 * Math.min(v, end)) / end}%`;
  return svg(
    "svg",
    { class: "interval", "aria-hidden": "true" },
    svg("line", { class: "axis", x1: 0, x2: "100%", y1: "50%", y2: "50%" }),
    svg("line", { class: "range", x1: at(low), x2: at(high), y1: "50%", y2: "50%" }),
    value === null ? "" : svg("circle", { class: "value", cx: at(value), cy: "50%", r: 5 }),
  );
}
