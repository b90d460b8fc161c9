// How a candidate compares with the bundle that was released when it was made.

import { h } from "./dom.js";
import { count, moment, number, t } from "./texts.js";
import { badge } from "./verdict.js";

const FORMATS = [1, 2];
const SETS = ["frozen", "sample", "labelled"];
// Their parts were not chosen by what the released bundle said of them: a difference counts.
const TELLING = ["frozen", "sample"];
const COUNTS = { false_rejects: "good", good_reviews: "good", escapes: "bad", bad_reviews: "bad" };

/** The comparison of a version; null if it has none that this page knows. */
export function comparisonTable({ comparison, comparison_current: current }, folded) {
  if (!FORMATS.includes(comparison?.format)) return null;
  // Its figures are those of what the bundle was made from.
  if (!current) return h("p", { class: "hint" }, t("comparison.changed_since"));
  const sets = SETS.filter((name) => comparison[name]);
  const head = sets.map((name) =>
    h(
      "th",
      { scope: "col" },
      t(`comparison.${name}`),
      h(
        "small",
        {},
        t("comparison.images", {
          good: count(comparison[name].good),
          bad: count(comparison[name].bad),
        }),
      ),
    ),
  );
  const counts = Object.entries(COUNTS).map(([name, of]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, t(`comparison.${name}`)),
      sets.map((set) => change(comparison[set], name, of, TELLING.includes(set))),
    ),
  );
  const earlier = comparison.format === 1;
  const notes = [
    ...(earlier ? [t("comparison.earlier")] : []),
    ...(earlier || comparison.sample ? [] : [t("comparison.no_sample")]),
    ...(comparison.sample && !comparison.sample.auroc ? [t("comparison.small_sample")] : []),
    ...(comparison.labelled ? [t("comparison.why_no_difference")] : []),
    ...comparison.notes,
    ...(comparison.disputed.length
      ? [t("comparison.disputed", { n: count(comparison.disputed.length) })]
      : []),
    ...(comparison.missing.length
      ? [t("comparison.missing", { n: count(comparison.missing.length) })]
      : []),
  ];
  return h(
    "details",
    { class: "comparison", open: !folded },
    h(
      "summary",
      {},
      t("comparison.title", {
        sha256: comparison.old_sha256.slice(0, 12),
        time: moment(comparison.time),
      }),
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain" },
        h("thead", {}, h("tr", {}, h("td", {}), head)),
        h(
          "tbody",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "row" }, t("comparison.auroc")),
            sets.map((set) => areaCell(TELLING.includes(set) ? comparison[set].auroc : null)),
          ),
          counts,
        ),
      ),
    ),
    judged("again_rejected", comparison.again_rejected, comparison.labelled?.good),
    judged("escaped", comparison.escaped, comparison.labelled?.bad),
    h(
      "p",
      { class: "muted" },
      t("comparison.training", {
        images: count(comparison.images),
        parts: count(comparison.trained_on.length),
        steps: count(comparison.steps),
      }),
    ),
    earlier
      ? null
      : h(
          "p",
          { class: "muted" },
          t("comparison.limits", {
            images: count(comparison.calibration_images),
            parts: count(comparison.calibrated_on.length),
          }),
        ),
    notes.length
      ? h(
          "ul",
          { class: "muted" },
          notes.map((text) => h("li", {}, text)),
        )
      : null,
  );
}

/** Old and new AUROC; a difference counts as one only if its interval leaves out zero. */
function areaCell(auroc) {
  if (!auroc) return h("td", {}, "–");
  const better = auroc.low > 0 ? "better" : auroc.high < 0 ? "worse" : "same";
  const signed = (value) => `${value > 0 ? "+" : ""}${number(value, 2)}`;
  return h(
    "td",
    { data: { change: better } },
    `${number(auroc.old, 4)} → ${number(auroc.new, 4)}`,
    h(
      "small",
      {},
      t("comparison.difference", {
        difference: signed(auroc.difference),
        low: signed(auroc.low),
        high: signed(auroc.high),
      }),
    ),
  );
}

function change(set, name, of, telling) {
  const [before, now] = [set.old[name], set.new[name]];
  const better = !telling || now === before ? "same" : now < before ? "better" : "worse";
  return h(
    "td",
    { data: { change: better } },
    `${count(before)} → ${count(now)}`,
    h("small", {}, t("comparison.of", { n: count(set[of]) })),
  );
}

/** Labelled parts that the candidate judges otherwise than people do, of so many. */
function judged(name, parts, of) {
  if (!of) return null;
  if (!parts.length) return h("p", {}, t(`comparison.no_${name}`));
  const entry = (part) =>
    h(
      "li",
      {},
      h("a", { href: `#/part/${part.inspection_id}` }, String(part.inspection_id)),
      badge(part.old_verdict),
      "→",
      badge(part.verdict),
      part.trained_on ? h("small", {}, t("comparison.trained_on")) : null,
    );
  return h(
    "div",
    {},
    h("p", {}, h("strong", {}, t(`comparison.${name}`, { n: count(parts.length) }))),
    h("ul", { class: "judged" }, parts.slice(0, 50).map(entry)),
  );
}
