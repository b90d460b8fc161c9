// The state of a polygon editor, how it is drawn, and what the pointer does.

import { outline } from "./polygon_drawing.js";
import { t } from "./texts.js";

const NEAR = 10; // screen pixels

/**
 * @param regions [{name, kind, polygon | mask}], changed in place
 * @param may whether they may be changed
 * @param changed called after a change; with true if there are other regions or corners than before
 */
export function polygonEditor(regions, may, changed) {
  let drawing = null; // the region whose corners are being clicked
  let chosen = null; // index of a region
  let corner = null; // index of a corner of it
  let dragged = false;
  let size = null; // height, width of the frame
  let redraw = () => {};
  const open = new Set(); // regions whose corners are listed

  function update(isOther = true) {
    redraw();
    changed(isOther);
  }

  /** The nearest corner, or the middle of a side, within reach of a point. */
  function hit([x, y], reach, middles = false) {
    let best = null;
    regions.forEach((region, i) =>
      (region.polygon ?? []).forEach((a, k, all) => {
        const b = all[(k + 1) % all.length];
        const [px, py] = middles ? [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] : a;
        const far = Math.hypot(px - x, py - y);
        if (far < (best?.far ?? reach)) best = { i, k, far };
      }),
    );
    return best;
  }

  const inside = (polygon, [x, y]) => {
    let is = false;
    polygon.forEach(([ax, ay], k) => {
      const [bx, by] = polygon[(k + 1) % polygon.length];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) is = !is;
    });
    return is;
  };

  const within = ([x, y]) => {
    const [height, width] = size ?? [Infinity, Infinity];
    return [
      Math.round(Math.min(Math.max(x, 0), width)),
      Math.round(Math.min(Math.max(y, 0), height)),
    ];
  };

  let scale = 1;
  function pointer(kind, point, event) {
    if (!may || event.button > 0) return false;
    const reach = (event.pointerType === "touch" ? 2 : 1) * (NEAR / scale);
    if (kind === "down") return pressed(point, reach);
    if (kind === "move" && dragged) {
      regions[chosen].polygon[corner] = within(point);
      redraw();
    }
    if (kind === "up" && dragged) {
      dragged = false;
      update();
    }
    return true;
  }

  function pressed(point, reach) {
    if (drawing) {
      const [first] = drawing.polygon;
      const closes =
        drawing.polygon.length > 2 && Math.hypot(first[0] - point[0], first[1] - point[1]) < reach;
      if (closes) finish();
      else {
        drawing.polygon.push(within(point));
        update();
      }
      return true;
    }
    let found = hit(point, reach);
    const side = found ? null : hit(point, reach, true);
    if (side) {
      regions[side.i].polygon.splice(side.k + 1, 0, within(point));
      found = { i: side.i, k: side.k + 1 };
    }
    if (found) {
      [chosen, corner, dragged] = [found.i, found.k, true];
      redraw();
      return true;
    }
    const under = regions.findLastIndex(
      (region) => region.polygon && inside(region.polygon, point),
    );
    [chosen, corner] = [under < 0 ? null : under, null];
    update();
    return false; // so that dragging moves the frame
  }

  function begin(kind) {
    finish();
    const names = new Set(regions.map((region) => region.name));
    let n = 1;
    while (names.has(`${t(`regions.${kind}_name`)} ${n}`)) n += 1;
    drawing = { name: `${t(`regions.${kind}_name`)} ${n}`, kind, polygon: [] };
    chosen = corner = null;
    update();
  }

  function finish() {
    if (drawing && drawing.polygon.length > 2) chosen = regions.push(drawing) - 1;
    drawing = null;
    update();
  }

  /** As a person ends a polygon. Without corners, such as without a pointer, it is a rectangle. */
  function close() {
    if (drawing?.polygon.length === 0) {
      const [height, width] = (size ?? [100, 100]).map((n) => Math.round(n / 4));
      drawing.polygon = [
        [width, height],
        [3 * width, height],
        [3 * width, 3 * height],
        [width, 3 * height],
      ];
      open.add(regions.length);
    }
    finish();
  }

  function escape() {
    drawing = chosen = corner = null;
    update();
  }

  function deleteChosen() {
    if (drawing) drawing.polygon.pop();
    else if (chosen === null) return;
    else if (corner !== null && regions[chosen].polygon.length > 3) {
      regions[chosen].polygon.splice(corner, 1);
      corner = null;
    } else remove(chosen);
    update();
  }

  function remove(i) {
    regions.splice(i, 1);
    chosen = corner = null;
    open.clear();
    update();
  }

  function layer(context, now) {
    scale = now;
    regions.forEach((region, i) => {
      if (!region.polygon) return;
      const isChosen = i === chosen;
      const how = { isChosen, closed: true, handles: may, corner: isChosen ? corner : null };
      outline(context, region, scale, how);
    });
    if (drawing) outline(context, drawing, scale, { isChosen: true, closed: false, handles: may });
  }

  function hint() {
    if (!may) return "";
    if (drawing) return t("regions.hint_drawing", { n: drawing.polygon.length });
    return t(chosen === null ? "regions.hint" : "regions.hint_chosen");
  }

  return {
    begin,
    finish,
    close,
    escape,
    deleteChosen,
    remove,
    layer,
    pointer,
    hint,
    regions: () => regions,
    chosen: () => chosen,
    size: () => size,
    setSize: (found) => (size = found),
    onDraw: (draw) => (redraw = draw),
    isOpen: (i) => open.has(i),
    setOpen: (i, is) => (is ? open.add(i) : open.delete(i)),
    choose(i) {
      if (i === chosen) return;
      [chosen, corner] = [i, null];
      update(false);
    },
    change(i, facts) {
      const isOther = "polygon" in facts && facts.polygon.length !== regions[i].polygon.length;
      Object.assign(regions[i], facts);
      update(isOther);
    },
    move(i, by) {
      const [region] = regions.splice(i, 1);
      regions.splice(i + by, 0, region);
      [chosen, corner] = [i + by, null];
      open.clear();
      update();
    },
    reset(original) {
      regions = original;
      drawing = chosen = corner = null;
      update();
    },
  };
}

/** Whether two sides of a polygon cross. */
export function crossing(polygon) {
  const turn = (a, b, c) =>
    Math.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]));
  const n = polygon.length;
  for (let i = 0; i < n; i += 1) {
    for (let j = i + 2; j < n; j += 1) {
      if (i === 0 && j === n - 1) continue; // neighbours
      const [a, b, c, d] = [polygon[i], polygon[i + 1], polygon[j], polygon[(j + 1) % n]];
      if (turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0) return true;
    }
  }
  return false;
}
