// How a region is drawn on a frame.

const COLOURS = { include: "#38b6ff", ignore: "#ff5c8a" };

/**
 * @param region its polygon in frame pixels, kind and name
 * @param scale screen pixels of a frame pixel: lines and texts have the same size at every zoom
 * @param how isChosen; closed, if it is not being drawn; handles, if its corners can be dragged;
 *   corner, the chosen one of them
 */
export function outline(context, region, scale, { isChosen, closed, handles, corner = null }) {
  const { polygon, kind, name } = region;
  if (!polygon.length) return;
  const path = new Path2D();
  polygon.forEach(([x, y], k) => (k ? path.lineTo(x, y) : path.moveTo(x, y)));
  if (closed) path.closePath();
  context.fillStyle = COLOURS[kind] + (isChosen ? "40" : "22");
  if (closed) context.fill(path);
  for (const [colour, width] of [
    ["#000a", isChosen ? 5 : 4],
    [COLOURS[kind], isChosen ? 3 : 2],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = width / scale;
    context.stroke(path);
  }
  if (handles) {
    polygon.forEach(([x, y], k) => {
      const r = (k === corner ? 7 : 5) / scale;
      context.fillStyle = k === corner ? "#fff" : COLOURS[kind];
      context.strokeStyle = "#000";
      context.lineWidth = 1.5 / scale;
      context.fillRect(x - r, y - r, 2 * r, 2 * r);
      context.strokeRect(x - r, y - r, 2 * r, 2 * r);
    });
  }
  context.font = `600 ${14 / scale}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const [x, y] = polygon.reduce((a, b) => (b[1] < a[1] ? b : a));
  context.fillStyle = "#000b";
  context.fillRect(
    x + 8 / scale,
    y + 8 / scale,
    context.measureText(name).width + 10 / scale,
    20 / scale,
  );
  context.fillStyle = "#fff";
  context.fillText(name, x + 13 / scale, y + 11 / scale);
}
