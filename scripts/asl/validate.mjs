// Checks definitions with asl-validator: validate.mjs FILE ...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const validate = createRequire(process.cwd() + "/")("asl-validator");
let failed = 0;
for (const file of process.argv.slice(2)) {
  const { isValid, errors } = validate(JSON.parse(readFileSync(file, "utf8")));
  if (!isValid) {
    failed += 1;
    console.error(`${file}: ${JSON.stringify(errors).slice(0, 2000)}`);
  }
}
console.log(`asl-validator: ${process.argv.length - 2} definitions, ${failed} not valid`);
process.exit(failed ? 1 : 0);
