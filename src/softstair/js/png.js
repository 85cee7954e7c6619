// PNG without a canvas: a canvas multiplies colours by alpha, and some add noise on purpose.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const latin = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(latin(name), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc32(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

// Rows less what Paeth predicts, each behind the number of that filter.
function filtered({ width, height, data }, channels) {
  const row = channels * width;
  const out = new Uint8Array((row + 1) * height);
  let above = new Uint8Array(row);
  let line = new Uint8Array(row);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0, i = 0, from = 4 * y * width; x < width; x++, from += 4)
      for (let c = 0; c < channels; c++) line[i++] = data[from + c];
    out[o++] = 4;
    for (let i = 0; i < row; i++) {
      const a = i < channels ? 0 : line[i - channels];
      const b = above[i];
      const c = i < channels ? 0 : above[i - channels];
      const toA = Math.abs(b - c);
      const toB = Math.abs(a - c);
      const toC = Math.abs(a + b - 2 * c);
      out[o++] = line[i] - (toA <= toB && toA <= toC ? a : toB <= toC ? b : c);
    }
    [above, line] = [line, above];
  }
  return out;
}

/**
 * The PNG of RGBA pixels, bit for bit, with a profile, EXIF and XMP if they are given.
 * @returns {Promise<Uint8Array>}
 */
export async function toPng(picture, { icc, exif, xmp } = {}) {
  const { width, height, data } = picture;
  let opaque = true;
  for (let i = 3; i < data.length && opaque; i += 4) opaque = data[i] === 255;
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8;
  head[9] = opaque ? 2 : 6;
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", head)];
  if (icc) parts.push(chunk("iCCP", joined([latin("ICC profile\0\0"), await deflated(icc)])));
  if (exif) parts.push(chunk("eXIf", exif));
  if (xmp) parts.push(chunk("iTXt", joined([latin("XML:com.adobe.xmp\0\0\0\0\0"), xmp])));
  parts.push(chunk("IDAT", await deflated(filtered(picture, opaque ? 3 : 4))), chunk("IEND", new Uint8Array(0)));
  return joined(parts);
}
