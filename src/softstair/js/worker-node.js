// The worker of Node.
import { parentPort } from "node:worker_threads";
import { read } from "./platform-node.js";
import { listener } from "./serve.js";

parentPort.on("message", listener(read, (...message) => parentPort.postMessage(...message)));
