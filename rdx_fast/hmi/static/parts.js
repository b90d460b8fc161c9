// Search of parts, and export of what was found.

import { get, query, session } from "./api.js";
import { decimalInput, field, h, select, withPoint } from "./dom.js";
import { attempt, complain, note } from "./notes.js";
import { count, moment, number, t } from "./texts.js";
import { agreedBadge, badge, RESULTS } from "./verdict.js";

const PAGE = 50;
const FIELDS = [
  "part_id",
  "job",
  "since",
  "until",
  "min_score",
  "max_score",
  "labelled",
  "sampled",
  "pictured",
];

export function open(root, { query: given }) {
  const form = filterForm(given);
  const rows = h("tbody", {});
  const found = h("p", { class: "muted", role: "status" });
  const newer = h(
    "button",
    { type: "button", onclick: () => load(pages.slice(0, -1)) },
    `← ${t("parts.newer")}`,
  );
  const older = h(
    "button",
    { type: "button", onclick: () => load([...pages, next]) },
    `${t("parts.older")} →`,
  );
  const exports = h("div", { class: "exports" });
  root.append(
    h("h1", {}, t("parts.title")),
    form.element,
    h("div", { class: "bar" }, found, exports, h("span", { class: "spacer" }), newer, older),
    h("div", { class: "panel scroll" }, h("table", { class: "plain wide" }, head(), rows)),
  );
  let pages = [null]; // the `before` of each page up to the one that is shown
  let next = null;
  let closed = false;

  async function load(wanted) {
    const values = asked(form.values());
    try {
      const told = await get("/api/parts", { ...values, before: wanted.at(-1), limit: PAGE });
      if (closed) return;
      pages = wanted;
      next = told.next;
      rows.replaceChildren(...told.parts.map(row));
      found.textContent = told.parts.length
        ? t("parts.found", {
            from: count(PAGE * (pages.length - 1) + 1),
            to: count(PAGE * (pages.length - 1) + told.parts.length),
          })
        : t("parts.nothing");
      newer.disabled = pages.length === 1;
      older.disabled = next === null;
      exports.replaceChildren(
        h("span", {}, t("parts.export")),
        ...["csv", "parquet", "zip"].map((format) =>
          h(
            "button",
            {
              type: "button",
              title: t(`parts.${format}`),
              onclick: ({ currentTarget }) => attempt(() => save(format, values), currentTarget),
            },
            format.toUpperCase(),
          ),
        ),
      );
    } catch (error) {
      if (!closed) complain(error);
    }
  }

  form.element.addEventListener("submit", (event) => {
    event.preventDefault();
    // The address names the search, so that "back" and bookmarks find it again.
    history.replaceState(null, "", `#/parts${query(form.values())}`);
    load([null]);
  });
  form.element.addEventListener("reset", () => setTimeout(() => form.element.requestSubmit()));
  load([null]);
  return () => (closed = true);
}

/** Save a file of the parts. The browser writes it to its disk as it comes; that it cannot be made
 *  is asked first, since the browser would not say so. */
async function save(format, values) {
  await get("/api/export", { format, ...values, check: 1 });
  h("a", { href: `/api/export${query({ format, ...values })}`, download: true }).click();
  note(t("parts.writing", { format: format.toUpperCase() }));
}

/** Local times and decimal commas as the server wants them. */
function asked(values) {
  const utc = (local) => (local ? new Date(local).toISOString() : "");
  return {
    ...values,
    since: utc(values.since),
    until: utc(values.until),
    min_score: withPoint(values.min_score),
    max_score: withPoint(values.max_score),
  };
}

function filterForm(given) {
  const inputs = {
    part_id: h("input", { inputmode: "numeric", pattern: "[0-9]*", size: 7 }),
    job: select(
      [
        ["", t("parts.any")],
        ...session.jobs.map((job) => [String(job.id), `${job.id} · ${job.name}`]),
      ],
      "",
    ),
    since: h("input", { type: "datetime-local" }),
    until: h("input", { type: "datetime-local" }),
    min_score: decimalInput(),
    max_score: decimalInput(),
    labelled: yesNo(),
    sampled: yesNo(),
    pictured: yesNo(),
  };
  const results = RESULTS.map((result) =>
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", value: result, name: "result" }),
      badge(result),
    ),
  );
  for (const name of FIELDS) inputs[name].value = given.get(name) ?? "";
  for (const label of results)
    label.firstChild.checked = given.getAll("result").includes(label.firstChild.value);
  const element = h(
    "form",
    { class: "panel filters" },
    FIELDS.map((name) => field(t(`filter.${name}`), inputs[name])),
    h(
      "fieldset",
      { class: "field" },
      h("legend", {}, t("filter.result")),
      h("div", { class: "checks" }, results),
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "reset" }, t("parts.reset")),
      h("button", { class: "primary" }, t("parts.search")),
    ),
  );
  return {
    element,
    values: () => ({
      ...Object.fromEntries(FIELDS.map((name) => [name, inputs[name].value])),
      result: results
        .map((label) => label.firstChild)
        .filter((box) => box.checked)
        .map((box) => box.value),
    }),
  };
}

const yesNo = () =>
  select(
    [
      ["", t("parts.any")],
      ["1", t("parts.yes")],
      ["0", t("parts.no")],
    ],
    "",
  );

const COLUMNS = [
  "part",
  "result",
  "score",
  "limits",
  "time",
  "job",
  "region",
  "error",
  "label",
  "sampled",
  "inspection",
];

const head = () =>
  h(
    "thead",
    {},
    h(
      "tr",
      {},
      h("th", { scope: "col" }, t("column.picture")),
      COLUMNS.map((name) => h("th", { scope: "col" }, t(`column.${name}`))),
    ),
  );

function row(part) {
  const address = `#/part/${part.inspection_id}`;
  const { inspection_id, triggered_at } = part;
  // The time is that of the part, whose id another may have once records begin anew.
  const src = `/api/parts/${inspection_id}/frame${query({ width: 80, triggered_at })}`;
  const image = part.has_frame ? h("img", { src, alt: "", loading: "lazy" }) : null;
  const cell = (...children) => h("td", {}, ...children);
  const figure = (text) => h("td", { class: "figure" }, text);
  return h(
    "tr",
    { onclick: (event) => event.target.closest("a") || (location.hash = address) },
    h("td", { class: "thumbnail" }, image),
    cell(h("a", { href: address }, String(part.part_id))),
    cell(badge(part.result)),
    figure(number(part.score)),
    figure(
      part.threshold === null
        ? "–"
        : `${number(part.threshold)} / ${number(part.ng_above ?? part.threshold)}`,
    ),
    cell(moment(part.triggered_at)),
    figure(String(part.job)),
    cell(part.region ?? ""),
    cell(part.error ? h("abbr", { title: t(`alarm.${part.error}.cause`) }, part.error) : ""),
    cell(agreedBadge(part.agreed) ?? ""),
    cell(part.sampled ? t("parts.yes") : ""),
    figure(String(part.inspection_id)),
  );
}
