// A frame with its heat map and boxes: zoom to pixels, pan, layers. Drawn on a canvas from bitmaps,
// which are closed when the next ones come.

import { ApiError, get, getRaw } from "./api.js";
import { h } from "./dom.js";
import { addKeys } from "./keys.js";
import { drawBoxes } from "./picture_boxes.js";
import { listen, STEP } from "./picture_pointer.js";
import { percent, t } from "./texts.js";

const PIXELS_FROM = 2; // from this zoom on, pixels are drawn as squares
const MOST = 64;

const wanted = { heat: true, boxes: true }; // kept from view to view

async function bitmap(path, signal) {
  const response = await getRaw(path, signal);
  const crop = response.headers.get("x-crop")?.split(",").map(Number);
  return { image: await createImageBitmap(await response.blob()), crop };
}

export class Picture {
  /**
   * @param layers more to draw, called with (context, scale) in frame pixels
   * @param pointer called with (kind, point, event) before panning; true if it was dealt with
   */
  constructor({ layers = [], pointer = null, overlays = true } = {}) {
    Object.assign(this, { layers, pointer, part: null, size: null, boxes: [] });
    this.frame = this.map = this.crop = null;
    this.whole = false; // the frame is loaded at its full size
    this.fitted = true;
    this.view = { scale: 1, x: 0, y: 0 };
    this.canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": t("picture.none") });
    this.message = h("p", { class: "picture-message" });
    this.caption = h("p", { class: "picture-caption" });
    this.zoomed = h("span", { class: "picture-zoom" });
    this.element = h(
      "div",
      { class: "picture" },
      h("div", { class: "picture-stage" }, this.canvas, this.message, this.caption),
      this.#toolbar(overlays),
    );
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas.parentElement);
    listen(this);
    this.removeKeys = addKeys({
      ...(overlays && {
        h: ["picture.heat", () => this.toggle("heat")],
        x: ["picture.boxes", () => this.toggle("boxes")],
      }),
      "+": ["picture.in", () => this.zoom(STEP)],
      "-": ["picture.out", () => this.zoom(1 / STEP)],
      0: ["picture.fit", () => this.fit()],
      p: ["picture.pixels", () => this.toPixels()],
    });
  }

  #toolbar(overlays) {
    const button = (text, label, action, properties = {}) =>
      h(
        "button",
        { type: "button", title: label, "aria-label": label, onclick: action, ...properties },
        text,
      );
    this.toggles = overlays
      ? ["heat", "boxes"].map((name) =>
          button(t(`picture.${name}_short`), t(`picture.${name}`), () => this.toggle(name), {
            "aria-pressed": String(wanted[name]),
            data: { name },
          }),
        )
      : [];
    return h(
      "div",
      { class: "picture-tools", role: "toolbar", "aria-label": t("picture.tools") },
      this.toggles,
      button("−", t("picture.out"), () => this.zoom(1 / STEP)),
      button("+", t("picture.in"), () => this.zoom(STEP)),
      button("1:1", t("picture.pixels"), () => this.toPixels()),
      button(t("picture.fit_short"), t("picture.fit"), () => this.fit()),
      this.zoomed,
    );
  }

  toggle(name) {
    wanted[name] = !wanted[name];
    for (const button of this.toggles)
      button.setAttribute("aria-pressed", String(wanted[button.dataset.name]));
    this.draw();
  }

  /**
   * Load and show a part, of which the inspection_id is needed. Resolves to its details; to null if
   * another was asked for meanwhile. Raises ApiError 404 if no frame is kept.
   */
  async show({ inspection_id: id }, { caption = "" } = {}) {
    this.loading?.abort();
    const { signal } = (this.loading = new AbortController());
    const path = `/api/parts/${id}`;
    const width = Math.ceil((this.canvas.clientWidth * devicePixelRatio) / 320) * 320 || 960;
    const detail = await get(path, {}, signal);
    if (!detail.part.has_frame) throw new ApiError(404, "no_picture", t("part.no_picture"));
    const [frame, map] = await Promise.all([
      bitmap(`${path}/frame?width=${width}`, signal),
      this.toggles.length && detail.part.has_map ? this.#map(path, signal) : null,
    ]);
    if (signal.aborted || this.closed) {
      frame.image.close();
      map?.image.close();
      return null;
    }
    const size = detail.frame_size ?? [frame.image.height, frame.image.width];
    if (String(size) !== String(this.size)) this.fitted = true;
    this.#release();
    const { part } = detail;
    Object.assign(this, {
      part,
      size,
      boxes: detail.defects ?? [],
      frame: frame.image,
      map: map?.image ?? null,
    });
    this.crop = map?.crop?.length === 4 ? map.crop : [0, 0, ...size];
    this.whole = frame.image.width >= size[1];
    this.message.textContent = "";
    this.caption.textContent = caption;
    this.canvas.setAttribute(
      "aria-label",
      t("picture.described", { part: part.part_id, result: part.result, n: this.boxes.length }),
    );
    this.draw();
    return detail;
  }

  /** The heat map; null where it is gone meanwhile. */
  async #map(path, signal) {
    try {
      return await bitmap(`${path}/map`, signal);
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /** Show no picture, but why there is none. */
  clear(message) {
    this.loading?.abort();
    this.#release();
    this.part = this.size = null;
    this.boxes = [];
    this.caption.textContent = "";
    this.message.textContent = message;
    this.canvas.setAttribute("aria-label", message);
    this.draw();
  }

  #release() {
    this.frame?.close();
    this.map?.close();
    this.frame = this.map = null;
  }

  async #loadWhole() {
    if (this.whole || this.loadingWhole || !this.part) return;
    this.loadingWhole = true;
    const { part } = this;
    try {
      const { image } = await bitmap(`/api/parts/${part.inspection_id}/frame`, this.loading.signal);
      if (this.part !== part || this.closed) image.close();
      else {
        this.frame.close();
        this.frame = image;
        this.whole = true;
        this.draw();
      }
    } catch {
      this.whole = true; // the smaller one stays
    } finally {
      this.loadingWhole = false;
    }
  }

  close() {
    this.closed = true;
    this.loading?.abort();
    this.observer.disconnect();
    this.removeKeys();
    this.#release();
  }

  fit() {
    this.fitted = true;
    this.draw();
  }

  /** One frame pixel as one pixel of the screen, or more where that is already so. */
  toPixels() {
    if (this.size) this.zoom(Math.max(1 / this.view.scale, this.view.scale < 0.99 ? 0 : 4));
  }

  /** Zoom by a factor about a point of the canvas, by default its middle. */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    if (!this.size) return;
    const { view } = this;
    const scale = Math.min(MOST, Math.max(this.#fitScale() / 2, view.scale * factor));
    const ratio = scale / view.scale;
    Object.assign(view, { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio });
    this.fitted = false;
    this.draw();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.draw();
  }

  #fitScale() {
    const [height, width] = this.size;
    return Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height);
  }

  /** The point in frame pixels of a pointer. */
  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const { scale, x, y } = this.view;
    return [(event.clientX - box.left - x) / scale, (event.clientY - box.top - y) / scale];
  }

  draw() {
    cancelAnimationFrame(this.drawing);
    this.drawing = requestAnimationFrame(() => this.closed || this.#draw());
  }

  #draw() {
    const { canvas, view } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) =>
      Math.round(n * devicePixelRatio),
    );
    if (canvas.width !== width || canvas.height !== height)
      Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    this.zoomed.textContent = "";
    // A finger scrolls the page past a picture that is shown whole.
    canvas.classList.toggle("fitted", this.fitted && !this.pointer);
    if (!this.frame) return;
    const [h_, w] = this.size;
    if (this.fitted) {
      const scale = this.#fitScale();
      Object.assign(view, {
        scale,
        x: (canvas.clientWidth - w * scale) / 2,
        y: (canvas.clientHeight - h_ * scale) / 2,
      });
    }
    this.zoomed.textContent = percent(view.scale);
    if (view.scale * devicePixelRatio * w > this.frame.width * 1.1) this.#loadWhole();
    const { scale, x, y } = view;
    const r = devicePixelRatio;
    context.setTransform(r * scale, 0, 0, r * scale, r * x, r * y);
    context.imageSmoothingEnabled = scale < PIXELS_FROM;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.frame, 0, 0, w, h_);
    if (wanted.heat && this.map && this.toggles.length) {
      const [top, left, tall, wide] = this.crop;
      context.imageSmoothingEnabled = true;
      context.drawImage(this.map, left, top, wide, tall);
    }
    if (wanted.boxes && this.toggles.length) drawBoxes(context, scale, this.boxes);
    for (const layer of this.layers) layer(context, scale);
  }
}
