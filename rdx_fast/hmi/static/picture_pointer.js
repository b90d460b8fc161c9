// Zoom and pan of a picture by wheel, pointer, fingers and arrow keys.

export const STEP = 1.25; // of one zoom

/** Listen to what happens on a picture's canvas. Its own `pointer` is asked before it is moved. */
export function listen(picture) {
  const { canvas } = picture;
  const down = new Map(); // pointers that are pressed
  let held = false;
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!picture.size) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      picture.zoom(
        event.deltaY < 0 ? STEP : 1 / STEP,
        event.clientX - box.left,
        event.clientY - box.top,
      );
    },
    { passive: false },
  );
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
    held = down.size === 1 && (picture.pointer?.("down", picture.pointOf(event), event) ?? false);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    down.set(event.pointerId, event);
    if (held) picture.pointer("move", picture.pointOf(event), event);
    else if (down.size === 2) pinch(picture, before, event, down);
    else picture.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  });
  const up = (event) => {
    if (held) picture.pointer("up", picture.pointOf(event), event);
    held = false;
    down.delete(event.pointerId);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener(
    "dblclick",
    () => !picture.pointer && (picture.fitted ? picture.toPixels() : picture.fit()),
  );
  canvas.addEventListener("keydown", (event) => {
    const way = {
      ArrowLeft: [40, 0],
      ArrowRight: [-40, 0],
      ArrowUp: [0, 40],
      ArrowDown: [0, -40],
    }[event.key];
    if (!way || picture.fitted) return; // then the view's own keys count
    event.preventDefault();
    event.stopPropagation();
    picture.pan(...way);
  });
}

/** Two fingers: zoom about the one that rests. */
function pinch(picture, before, now, down) {
  const other = [...down.values()].find((event) => event.pointerId !== now.pointerId);
  const apart = (event) =>
    Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY) || 1;
  const box = picture.canvas.getBoundingClientRect();
  picture.zoom(apart(now) / apart(before), other.clientX - box.left, other.clientY - box.top);
}
