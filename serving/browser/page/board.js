// Drawing board: converts strokes to the model's input pixels, centred and scaled like the training data.
const MARGIN = 1 / 14; // share of the frame's side
const OVERSAMPLING = 8; // canvas points per pixel along each axis; a pixel is their mean

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

  // Brightness 0 to 1 of each pixel, row by row, the same in each channel.
  pixels(height, width, channels) {
    const fineWidth = width * OVERSAMPLING, fineHeight = height * OVERSAMPLING;
    const context = new OffscreenCanvas(fineWidth, fineHeight).getContext("2d", { willReadFrequently: true });
    context.strokeStyle = "#000";
    draw(context, this.strokes, OVERSAMPLING * Math.max(1, height / 12), fitToFrame(this.strokes.flat(), fineWidth, fineHeight));
    const rgba = context.getImageData(0, 0, fineWidth, fineHeight).data;
    const pixels = [];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let v = 0; v < OVERSAMPLING; v++) {
          for (let u = 0; u < OVERSAMPLING; u++) sum += rgba[4 * ((y * OVERSAMPLING + v) * fineWidth + x * OVERSAMPLING + u) + 3];
        }
        pixels.push(...Array(channels).fill(sum / (255 * OVERSAMPLING * OVERSAMPLING)));
      }
    }
    return pixels;
  }
}

function draw(context, strokes, lineWidth, transform) {
  context.lineWidth = lineWidth;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    stroke.map(transform).forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (stroke.length === 1) context.lineTo(...transform(stroke[0]));
    context.stroke();
  }
}

// Returns the transformation that centres the drawing and scales its longer side to the frame.
function fitToFrame(points, width, height) {
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const share = 1 - 2 * MARGIN - 1 / 8; // without the margins and half a stroke on either side
  const scale = Math.min((share * width) / Math.max(right - left, 1), (share * height) / Math.max(bottom - top, 1));
  return ([x, y]) => [(x - (left + right) / 2) * scale + width / 2, (y - (top + bottom) / 2) * scale + height / 2];
}

// Draws pixels with one or three channels, 0 to 1, on a canvas.
export function show(canvas, pixels, height, width, channels) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    for (let c = 0; c < 3; c++) image.data[4 * index + c] = 255 * pixels[index * channels + (channels === 3 ? c : 0)];
    image.data[4 * index + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
