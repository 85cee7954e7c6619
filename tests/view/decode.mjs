// node decode.mjs JOBS.json: decodes what it says with the npm package; raw RGBA and a report beside each.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const jobs = JSON.parse(await readFile(process.argv[2]));
const softstair = await import(jobs.package.startsWith("/") ? pathToFileURL(jobs.package).href : jobs.package);
const bundles = {};
const results = [];
for (const job of jobs.jobs) {
  try {
    const bytes = new Uint8Array(await readFile(job.stream));
    const bundle = job.package ? (await import(job.package)).default : job.bundle && (bundles[job.bundle] ??= new Uint8Array(await readFile(job.bundle)));
    const options = { ...job.options, bundle };
    const info = await softstair.info(bytes);
    const symbols = options.allowPartial ? null : await softstair.symbolHash(bytes, options);
    const picture = await softstair.decode(bytes, options);
    if (job.raw) await writeFile(job.raw, picture.data);
    if (job.png) await writeFile(job.png, await softstair.decodeToPng(bytes, options));
    results.push({ info, symbols, width: picture.width, height: picture.height, damage: picture.damage });
  } catch (error) {
    results.push({ code: error.code ?? error.name, message: error.message });
  }
}
softstair.close();
console.log(JSON.stringify(results));
