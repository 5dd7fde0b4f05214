// Validates objects of the Prometheus operator against its own types.
//
//   node monitors.mjs <folder with node_modules>   reads a JSON list of objects from stdin
//
// Exit status 1 and one line for each object that is refused.
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { readFileSync } from "node:fs";

const [, , folder] = process.argv;
const types = join(
  folder, "node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1");

let refused = 0;
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const module = await import(pathToFileURL(join(types, `${object.kind}.js`)));
  try {
    new module[object.kind](object).validate();
  } catch (error) {
    refused += 1;
    console.error(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
process.exit(refused ? 1 : 0);
