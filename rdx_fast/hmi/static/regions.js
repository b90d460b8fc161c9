// Regions of a job's recipe, drawn on a frame; the same by numbers in a table.

import { get, isEngineer, post } from "./api.js";
import { decimal, decimalInput, field, h } from "./dom.js";
import { addKeys } from "./keys.js";
import { attempt, complain, confirmed, note } from "./notes.js";
import { Picture } from "./picture.js";
import { crossing, polygonEditor } from "./polygons.js";
import { regionEntry } from "./region_list.js";
import { t } from "./texts.js";

const inRange = (share) => share >= 0.0001 && share <= 0.5;

export function regionsPanel(job, reload) {
  const original = JSON.stringify(job.recipe.regions);
  const may = isEngineer();
  const editor = polygonEditor(JSON.parse(original), may, (isOther) =>
    isOther ? drawTable() : drawState(),
  );
  const picture = new Picture({ layers: [editor.layer], pointer: editor.pointer, overlays: false });
  editor.onDraw(() => picture.draw());
  const table = h("div", { class: "region-list" });
  const number = h("input", { inputmode: "numeric", pattern: "[0-9]+", size: 8 });
  const showFrame = (event) => {
    event?.preventDefault();
    attempt(() => show(number.value ? { inspection_id: Number(number.value) } : null));
  };
  const status = h("p", { class: "muted", role: "status" });
  // As the present limits promise.
  const share = decimalInput({ value: job.false_reject ?? 0.005, required: true });
  const enter = h(
    "button",
    { type: "button", class: "primary", onclick: enterRegions },
    t("regions.enter"),
  );
  const undo = h(
    "button",
    { type: "button", onclick: () => editor.reset(JSON.parse(original)) },
    t("regions.reset"),
  );

  const tools = h(
    "div",
    { class: "bar region-tools" },
    h(
      "button",
      { type: "button", onclick: () => editor.begin("include") },
      t("regions.add_include"),
    ),
    h("button", { type: "button", onclick: () => editor.begin("ignore") }, t("regions.add_ignore")),
    h("button", { type: "button", onclick: editor.close }, t("regions.finish")),
    h("span", { class: "spacer" }),
    h(
      "form",
      { class: "inline-form", onsubmit: showFrame },
      h("label", { class: "inline-field" }, t("regions.frame_of"), number),
      h("button", {}, t("regions.show")),
    ),
  );

  async function show(part) {
    const found =
      part ?? (await get("/api/parts", { job: job.job, pictured: 1, limit: 1 })).parts[0];
    if (!found) {
      picture.clear(t("regions.no_frame"));
      return;
    }
    const told = await picture.show(found);
    if (!told) return;
    number.value = found.inspection_id;
    editor.setSize(told.frame_size ?? picture.size);
    drawTable();
  }

  /** What changes while inputs of the table keep the focus. */
  function drawState() {
    const regions = editor.regions();
    status.textContent = editor.hint();
    enter.disabled = undo.disabled =
      JSON.stringify(stated(regions)) === JSON.stringify(stated(JSON.parse(original)));
    table.querySelectorAll("ol > li").forEach((row, i) => {
      Object.assign(row.dataset, { kind: regions[i].kind, chosen: i === editor.chosen() });
    });
  }

  function drawTable() {
    const regions = editor.regions();
    const focused = document.activeElement?.dataset.place;
    table.replaceChildren(
      regions.length
        ? h(
            "ol",
            {},
            regions.map((_, i) => regionEntry(editor, i, may)),
          )
        : h("p", { class: "muted" }, t("regions.none")),
    );
    drawState();
    if (focused) table.querySelector(`[data-place="${focused}"]`)?.focus();
  }

  /** What is wrong, in words; empty if nothing is. */
  function wrong(regions) {
    const names = regions.map((region) => region.name);
    if (names.some((name) => !name) || new Set(names).size < names.length)
      return t("regions.wrong_names");
    const crossed = regions.find((region) => region.polygon && crossing(region.polygon));
    return crossed ? t("regions.crosses", { name: crossed.name }) : "";
  }

  async function enterRegions() {
    editor.finish();
    const regions = editor.regions();
    status.textContent = wrong(regions) || (inRange(decimal(share)) ? "" : t("regions.wrong_share"));
    if (status.textContent) return;
    if (!(await confirmed(t("regions.enter"), t("regions.confirm"), t("regions.enter")))) return;
    const body = {
      regions: stated(regions),
      false_reject: decimal(share),
      base: job.sha256,
    };
    if (await attempt(() => post(`/api/jobs/${job.job}/regions`, body), enter)) {
      note(t("regions.begun"));
      reload();
    }
  }

  const removeKeys = may
    ? addKeys({
        n: ["regions.add_include", () => editor.begin("include")],
        i: ["regions.add_ignore", () => editor.begin("ignore")],
        Enter: ["regions.finish", editor.close],
        Escape: ["regions.escape", editor.escape],
        Delete: ["regions.remove_corner", editor.deleteChosen],
      })
    : () => {};
  const element = h(
    "section",
    { class: "panel regions" },
    h("h2", {}, t("regions.title")),
    h("p", { class: "muted" }, t("regions.meaning")),
    may ? tools : null,
    h(
      "div",
      { class: "region-editor" },
      picture.element,
      h("div", { class: "region-side" }, status, table),
    ),
    may
      ? h(
          "div",
          { class: "bar" },
          h("p", { class: "hint" }, t("regions.notice")),
          field(t("regions.share"), share),
          undo,
          enter,
        )
      : null,
  );
  drawTable();
  show(null).catch((error) => {
    if (error.status === 404) picture.clear(t("regions.no_frame"));
    else complain(error);
  });
  return {
    element,
    close() {
      removeKeys();
      picture.close();
    },
  };
}

/** Regions as the server takes them: a mask that is kept has no polygon. */
const stated = (regions) =>
  regions.map(({ name, kind, polygon }) =>
    polygon ? { name, kind, polygon } : { name, kind, keep: true },
  );
