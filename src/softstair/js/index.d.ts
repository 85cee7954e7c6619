/** Decoder of .stair pictures for browsers and Node. */

export type Input = Uint8Array | ArrayBuffer | ArrayBufferView | Blob | Response;

/** A bundle: its bytes, where it is, or what a bundle's package exports. */
export type Bundle = Uint8Array | ArrayBuffer | string | URL | { fingerprint: string; url: string | URL };

export interface Region {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Place {
  /** Where the decoder's WebAssembly is, if not beside this package's files. */
  wasmUrl?: string | URL | { simd?: string | URL; relaxed?: string | URL };
  signal?: AbortSignal;
}

export interface Options extends Place {
  /** One bundle or several; the one that the file names is used. */
  bundle?: Bundle | Bundle[];
  bundleUrl?: string | URL | (string | URL)[];
  /** Part of the picture, in its pixels. */
  region?: Region;
  /** 1, 1/2, 1/4 .. 1/64, from 1/4 on sooner than the whole. A region is widened to whole pixels of the result. */
  scale?: number;
  /** Pictures with more are refused; 268 million by default. */
  maxPixels?: number;
  /** Bytes that the decoder may take, about; 1e9 by default. */
  maxMemory?: number;
  /** Show what there is of a file that ends early or is damaged, grey elsewhere, instead of rejecting. */
  allowPartial?: boolean;
  /** What is done, 0 to 1. */
  onProgress?: (done: number) => void;
}

/** As ImageData: RGBA, not multiplied by alpha. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8ClampedArray;
  /** With `allowPartial`, a sentence on what is missing; null if nothing is. */
  damage: string | null;
}

export interface Info {
  width: number;
  height: number;
  colour: "rgb" | "grey";
  alpha: boolean;
  version: number;
  mode: string;
  /** The rate position. */
  position: number;
  tiles: number;
  /** How many tiles are coded without loss. */
  exactTiles: number;
  /** Of the bundle that the file needs; null if it needs none. */
  fingerprint: string | null;
}

export interface Metadata {
  icc: Uint8Array | null;
  exif: Uint8Array | null;
  xmp: Uint8Array | null;
  iptc: Uint8Array | null;
}

export type Code =
  | "internal"
  | "usage"
  | "not-a-stair-file"
  | "unsupported"
  | "truncated"
  | "corrupt"
  | "limit"
  | "invalid-bundle"
  | "wrong-bundle"
  | "no-memory"
  | "stopped";

/** What went wrong: one sentence, and a code to decide by. */
export class StairError extends Error {
  readonly code: Code;
}

/** Pixels of a file. Rejects with a StairError, or with the signal's reason. */
export function decode(input: Input, options?: Options): Promise<Picture>;
/** The same as a PNG with the file's metadata. */
export function decodeToPng(input: Input, options?: Options): Promise<Uint8Array>;
export function info(input: Input, options?: Place): Promise<Info>;
export function metadata(input: Input, options?: Place): Promise<Metadata>;
/** A PNG of pixels, bit for bit. */
export function toPng(picture: Pick<Picture, "width" | "height" | "data">, metadata?: Partial<Metadata>): Promise<Uint8Array>;
/** SHA-256 over all symbols, hexadecimal: the same on every machine. */
export function symbolHash(input: Input, options?: Options): Promise<string>;
/** Ends all workers and gives their memory back. */
export function close(): void;
