// What transformers.js reads in checkpoint folders, and the features that it makes of raw float32 samples:
//   node features.mjs jobs.json
// jobs.json: {"root": folder, "models": [folder in it], "sounds": [name]}, for samples in root/name.f32. Features are
// written to root/model/name.features. Prints as JSON what each folder was read as, and the shapes of its features.

import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as onnxruntime from "onnxruntime-web";

// The features end in a product of matrices, which transformers.js leaves to ONNX Runtime: here to the WebAssembly one
// of browsers, which would otherwise be fetched from the network.
const here = dirname(fileURLToPath(import.meta.url));
onnxruntime.env.wasm.wasmPaths = join(here, "node_modules", "onnxruntime-web", "dist") + "/";
onnxruntime.env.wasm.numThreads = 1;
globalThis[Symbol.for("onnxruntime")] = onnxruntime;
globalThis.fetch = (address) => {
  throw new Error(`nothing may be fetched, ${address} was asked for`);
};
const { AutoConfig, AutoFeatureExtractor, env } = await import("@huggingface/transformers");

function readSamples(file) {
  const bytes = readFileSync(file);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

async function describe(root, model, sounds) {
  const { model_type, id2label, num_mel_bins, max_length } = await AutoConfig.from_pretrained(model);
  const extractor = await AutoFeatureExtractor.from_pretrained(model);
  const shapes = {};
  let outputs = [];
  for (const sound of sounds) {
    const made = await extractor(readSamples(join(root, `${sound}.f32`)));
    const { data, dims } = made.input_values;
    outputs = Object.keys(made);
    writeFileSync(join(root, model, `${sound}.features`), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    shapes[sound] = dims;
  }
  const config = { model_type, id2label, num_mel_bins, max_length };
  return { config, extractor: extractor.constructor.name, outputs, shapes };
}

const { root, models, sounds } = JSON.parse(readFileSync(process.argv[2], "utf-8"));
env.allowRemoteModels = false;
env.localModelPath = root;
const told = { version: env.version, models: {} };
for (const model of models) {
  told.models[model] = await describe(root, model, sounds);
}
console.log(JSON.stringify(told));
