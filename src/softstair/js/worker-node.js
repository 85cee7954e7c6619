// The worker of Node.
import { parentPort } from "node:worker_threads";
import { makeServer, plain, transferable } from "./serve.js";
import { read } from "./platform-node.js";

let current = 0;
const answer = makeServer(read, (done) => parentPort.postMessage({ id: current, done }));

parentPort.on("message", async (data) => {
  try {
    current = data.id;
    const result = await answer(data.question);
    parentPort.postMessage({ id: data.id, result }, transferable(result.value));
  } catch (error) {
    parentPort.postMessage({ id: data.id, error: plain(error) });
  }
});
