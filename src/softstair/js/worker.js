// The worker of browsers.
import { fetched, listener } from "./serve.js";

const heard = listener(fetched, postMessage);
onmessage = ({ data }) => heard(data);
