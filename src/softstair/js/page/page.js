// The page of a viewer or an album: everything it needs is inside it, and it asks nobody for anything.
const $ = (id) => document.getElementById(id);

async function unpacked(element) {
  const binary = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([binary]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ---------------------------------------------------------------------------------------------
// The decoder, in a worker made of this page's own text

let worker = null;
let last = 0;
const waiting = new Map();

function ask(question) {
  const id = ++last;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, question });
  });
}

async function start() {
  const source = new Blob([$("decoder").textContent], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(source));
  worker.onmessage = ({ data: { id, done, result, error } }) => {
    if (done !== undefined) return;
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(Object.assign(new Error(error.message), { code: error.code }));
    else resolve(result.value);
  };
  const wasm = {};
  for (const element of document.querySelectorAll("[data-wasm]")) wasm[element.dataset.wasm] = await unpacked(element);
  await ask({ ask: "open", wasm });
  for (const element of document.querySelectorAll("[data-bundle]")) await ask({ ask: "bundle", source: await unpacked(element) });
}

// ---------------------------------------------------------------------------------------------
// Pictures

const pictures = [];
let current = -1;
let zoom = null; // null: the whole picture

const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`);

async function add(name, bytes) {
  const picture = { name, bytes };
  const figure = document.createElement("figure");
  const button = document.createElement("button");
  const caption = document.createElement("figcaption");
  const small = document.createElement("small");
  caption.append(name, small);
  figure.append(button, caption);
  $("album").append(figure);
  $("hint").hidden = true;
  try {
    const info = (picture.info = await ask({ ask: "info", bytes }));
    small.textContent = `${info.width} × ${info.height}, ${size(bytes.length)}`;
    const options = { divisor: 1, maxPixels: 16384 * 16384, maxMemory: 1e9, allowPartial: true };
    const { png, damage } = await ask({ ask: "png", bytes, fingerprint: info.fingerprint, options });
    picture.damage = damage;
    if (damage) {
      const warning = document.createElement("small");
      warning.className = "damage";
      warning.textContent = damage;
      caption.append(warning);
    }
    picture.png = new Blob([png], { type: "image/png" });
    picture.url = URL.createObjectURL(picture.png);
    const image = new Image();
    image.alt = name;
    image.src = picture.url;
    button.append(image);
    const index = pictures.push(picture) - 1;
    button.onclick = () => show(index);
    button.title = `Open ${name}`;
  } catch (error) {
    button.remove();
    const text = document.createElement("div");
    text.className = "failed";
    const hint = error.code === "wrong-bundle" ? " Drop its bundle (.stairs) first." : "";
    text.textContent = error.message + hint;
    figure.prepend(text);
  }
}

async function take(files) {
  const list = [...files].sort((a, b) => b.name.endsWith(".stairs") - a.name.endsWith(".stairs"));
  for (const file of list) {
    $("status").textContent = `Opening ${file.name}`;
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (!file.name.endsWith(".stairs")) {
      await add(file.name, bytes);
      continue;
    }
    try {
      await ask({ ask: "bundle", source: bytes });
    } catch (error) {
      $("status").textContent = error.message;
      return;
    }
  }
  $("status").textContent = "";
}

// ---------------------------------------------------------------------------------------------
// One picture

function show(index) {
  if (index < 0 || index >= pictures.length) return;
  current = index;
  const { name, url, info, bytes, damage } = pictures[index];
  $("shown").src = url;
  $("shown").alt = name;
  const exact = info.exactTiles === info.tiles ? ", exact" : info.exactTiles ? `, ${info.exactTiles} of ${info.tiles} tiles exact` : "";
  const rate = ((8 * bytes.length) / (info.width * info.height)).toFixed(3);
  $("facts").textContent = `${name}: ${info.width} × ${info.height}, ${size(bytes.length)}, ${rate} bits a pixel, ${info.mode} at rate position ${info.position}${info.alpha ? ", alpha" : ""}${exact}${damage ? `. ${damage}` : ""}`;
  setZoom(null);
  if (!$("viewer").open) $("viewer").showModal();
}

function setZoom(factor) {
  const image = $("shown");
  const { width, height } = pictures[current].info;
  zoom = factor;
  image.classList.toggle("fit", factor === null);
  image.classList.toggle("pixels", factor !== null && factor > 1);
  image.style.width = factor === null ? "" : `${(width * factor) / devicePixelRatio}px`;
  image.style.height = factor === null ? "" : `${(height * factor) / devicePixelRatio}px`;
}

const scaled = (by) => setZoom(Math.min(16, Math.max(1 / 16, (zoom ?? ($("shown").clientWidth * devicePixelRatio) / pictures[current].info.width) * by)));

function save(blob, extension) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = pictures[current].name.replace(/\.stair$/i, "") + extension;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A segment of a JPEG file; those that hold more than it can are left out.
function segment(marker, label, content) {
  const head = Array.from(label, (c) => c.charCodeAt(0));
  const length = 2 + head.length + content.length;
  if (length > 65535) return new Uint8Array(0);
  return Uint8Array.from([255, marker, length >> 8, length & 255, ...head, ...content]);
}

async function asJpeg({ png, bytes, damage }) {
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const jpeg = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  const { icc, exif, xmp } = await ask({ ask: "metadata", bytes }).catch((error) => {
    if (damage) return {};
    throw error;
  });
  const parts = [jpeg.slice(0, 2)];
  if (exif) parts.push(segment(0xe1, "Exif\0\0", exif));
  if (xmp) parts.push(segment(0xe1, "http://ns.adobe.com/xap/1.0/\0", xmp));
  if (icc) parts.push(segment(0xe2, "ICC_PROFILE\0\x01\x01", icc));
  return new Blob([...parts, jpeg.slice(2)], { type: "image/jpeg" });
}

// ---------------------------------------------------------------------------------------------

$("choose").onchange = ({ target }) => take(target.files);
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  ready.then(() => take(event.dataTransfer.files));
});
$("previous").onclick = () => show(current - 1);
$("next").onclick = () => show(current + 1);
$("smaller").onclick = () => scaled(1 / 2);
$("larger").onclick = () => scaled(2);
$("fit").onclick = () => setZoom(null);
$("full").onclick = () => setZoom(1);
$("png").onclick = () => save(pictures[current].png, ".png");
$("jpeg").onclick = async () => save(await asJpeg(pictures[current]), ".jpg");
$("close").onclick = () => $("viewer").close();
addEventListener("keydown", ({ key }) => {
  if (!$("viewer").open) return;
  const id = { ArrowLeft: "previous", ArrowRight: "next", "-": "smaller", "+": "larger", 0: "fit", 1: "full" }[key];
  if (id) $(id).click();
});

const ready = (async () => {
  try {
    await start();
    for (const element of document.querySelectorAll("[data-picture]")) await add(element.dataset.picture, await unpacked(element));
  } catch (error) {
    $("status").textContent = error.message;
  }
  document.body.dataset.ready = "yes";
})();
