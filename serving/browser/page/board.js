// A board to draw on: strokes become the pixels that the model reads, moved and scaled into the frame as the data is.
const MARGIN = 1 / 14; // of the frame's sides
const FINE = 8; // points a pixel, whose mean is the pixel

export class Board {
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.strokes = [];
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.strokes.push([]);
      this.add(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.strokes.length && this.add(event));
    canvas.addEventListener("pointerup", () => this.strokes.length && onChange());
  }

  add(event) {
    this.strokes.at(-1).push([event.offsetX, event.offsetY]);
    this.paint();
  }

  clear() {
    this.strokes = [];
    this.paint();
  }

  paint() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.strokeStyle = getComputedStyle(this.canvas).color;
    draw(context, this.strokes, 18, (point) => point);
  }

  // Brightness 0 to 1 of each pixel, row by row, each channel the same.
  pixels(height, width, channels) {
    const fine = new OffscreenCanvas(width * FINE, height * FINE).getContext("2d", { willReadFrequently: true });
    fine.strokeStyle = "#000";
    draw(fine, this.strokes, FINE * Math.max(1, height / 12), fitted(this.strokes.flat(), width * FINE, height * FINE));
    const alpha = fine.getImageData(0, 0, width * FINE, height * FINE).data;
    const pixels = [];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let v = 0; v < FINE; v++) {
          for (let u = 0; u < FINE; u++) sum += alpha[4 * ((y * FINE + v) * width * FINE + x * FINE + u) + 3];
        }
        pixels.push(...Array(channels).fill(sum / (255 * FINE * FINE)));
      }
    }
    return pixels;
  }
}

function draw(context, strokes, wide, place) {
  context.lineWidth = wide;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    stroke.map(place).forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (stroke.length === 1) context.lineTo(...place(stroke[0]));
    context.stroke();
  }
}

// What moves the drawing to the middle and makes its longer side fill the frame.
function fitted(points, width, height) {
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const room = 1 - 2 * MARGIN - 1 / 8; // half a stroke on either side
  const scale = Math.min((room * width) / Math.max(right - left, 1), (room * height) / Math.max(bottom - top, 1));
  return ([x, y]) => [(x - (left + right) / 2) * scale + width / 2, (y - (top + bottom) / 2) * scale + height / 2];
}

// Shows pixels of one or three channels, 0 to 1, as large squares.
export function show(canvas, pixels, height, width, channels) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    for (let c = 0; c < 3; c++) image.data[4 * at + c] = 255 * pixels[at * channels + (channels === 3 ? c : 0)];
    image.data[4 * at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
