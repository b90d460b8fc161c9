// An entry of the list of regions: name, kind, order, and its corners as numbers.

import { decimal, decimalInput, h, select } from "./dom.js";
import { t } from "./texts.js";

/**
 * @param editor see polygons.js
 * @param i place of the region
 * @param may whether it may be changed
 */
export function regionEntry(editor, i, may) {
  const region = editor.regions()[i];
  const n = editor.regions().length;
  const name = h("input", {
    value: region.name,
    disabled: !may,
    maxlength: 60,
    onchange: (e) => editor.change(i, { name: e.target.value.trim() }),
    "aria-label": t("regions.name"),
  });
  const kinds = ["include", "ignore"].map((kind) => [kind, t(`regions.${kind}`)]);
  const kind = select(kinds, region.kind, {
    disabled: !may,
    "aria-label": t("regions.kind"),
    onchange: (e) => editor.change(i, { kind: e.target.value }),
  });
  const button = (text, label, action, disabled = false) =>
    may &&
    h(
      "button",
      {
        type: "button",
        "aria-label": label,
        title: label,
        onclick: action,
        disabled,
        data: { place: `${i} ${text}` },
      },
      text,
    );
  const corners = region.polygon
    ? h(
        "details",
        { open: editor.isOpen(i), ontoggle: (e) => editor.setOpen(i, e.target.open) },
        h("summary", {}, t("regions.corners", { n: region.polygon.length })),
        cornersTable(editor, i, may),
      )
    : h("p", { class: "muted" }, t("regions.mask"));
  return h(
    "li",
    { onfocusin: () => editor.choose(i) },
    h(
      "div",
      { class: "region-head" },
      name,
      kind,
      button("↑", t("regions.up"), () => editor.move(i, -1), i === 0),
      button("↓", t("regions.down"), () => editor.move(i, 1), i === n - 1),
      button("×", t("regions.delete"), () => editor.remove(i)),
    ),
    corners,
  );
}

function cornersTable(editor, i, may) {
  const region = editor.regions()[i];
  const cell = (k, axis) => {
    const change = (event) => {
      const polygon = region.polygon.map((corner) => [...corner]);
      polygon[k][axis] = Math.min(
        Math.max(decimal(event.target) || 0, 0),
        editor.size()?.[1 - axis] ?? 1e6,
      );
      event.target.value = polygon[k][axis];
      editor.change(i, { polygon });
    };
    const label = t("regions.coordinate", { axis: "xy"[axis], n: k + 1 });
    return h(
      "td",
      {},
      decimalInput({
        value: region.polygon[k][axis],
        disabled: !may,
        "aria-label": label,
        onchange: change,
      }),
    );
  };
  const insert = (k) => {
    const polygon = region.polygon.map((corner) => [...corner]);
    const after = polygon[(k + 1) % polygon.length];
    polygon.splice(
      k + 1,
      0,
      [0, 1].map((axis) => Math.round((polygon[k][axis] + after[axis]) / 2)),
    );
    editor.change(i, { polygon });
  };
  const remove = (k) => editor.change(i, { polygon: region.polygon.filter((_, j) => j !== k) });
  const buttons = (k) =>
    may &&
    h(
      "td",
      {},
      h(
        "button",
        {
          type: "button",
          data: { place: `${i} ${k} +` },
          title: t("regions.insert"),
          "aria-label": t("regions.insert"),
          onclick: () => insert(k),
        },
        "+",
      ),
      h(
        "button",
        {
          type: "button",
          data: { place: `${i} ${k} -` },
          title: t("regions.remove_corner"),
          "aria-label": t("regions.remove_corner"),
          disabled: region.polygon.length <= 3,
          onclick: () => remove(k),
        },
        "−",
      ),
    );
  return h(
    "table",
    { class: "corners" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["#", "x", "y"].map((text) => h("th", { scope: "col" }, text)),
      ),
    ),
    h(
      "tbody",
      {},
      region.polygon.map((_, k) =>
        h(
          "tr",
          {},
          ...[h("td", {}, String(k + 1)), cell(k, 0), cell(k, 1), buttons(k)].filter(Boolean),
        ),
      ),
    ),
  );
}
