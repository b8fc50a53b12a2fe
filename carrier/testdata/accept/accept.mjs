// Holds the golden answers and the signatures of carrier/*/testdata against the
// carriers' own packages; README.md beside it says how to run it.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { answers } from './answers.mjs';
import { signatures } from './signatures.mjs';

const carriers = process.argv[2] ? new URL(`file://${process.argv[2]}/`) : new URL('../../', import.meta.url);
const read = (path) => readFileSync(new URL(path, carriers), 'utf8');

let failed = 0;
const check = (name, test) => {
  try {
    test();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}\n${error.message}\n`);
  }
};

for (const [path, accept] of Object.entries(answers)) check(path, () => accept(read(path)));

for (const [carrier, { vectors, accepts, spoil }] of Object.entries(signatures)) {
  for (const [i, vector] of vectors(JSON.parse(read(`${carrier}/testdata/signatures.json`))).entries()) {
    check(`${carrier} signature ${i + 1}: ${vector.name ?? 'vector'}`, () => {
      assert.ok(accepts(vector), 'the package does not accept it');
      assert.ok(!accepts(spoil(vector)), 'the package accepts it with another signature too');
    });
  }
}

// Exotel has no package. Every other golden answer must have been held against one.
for (const carrier of ['twilio', 'telnyx', 'plivo', 'vonage', 'jambonz']) {
  const folder = new URL(`${carrier}/testdata/`, carriers);
  for (const file of existsSync(folder) ? readdirSync(folder) : []) {
    if (!/^(?!signatures).*\.(xml|json)$/.test(file)) continue;
    check(`${carrier}/testdata/${file} is among the answers`, () => assert.ok(`${carrier}/testdata/${file}` in answers));
  }
}

console.log(failed ? `${failed} not accepted` : 'all accepted');
process.exitCode = failed ? 1 : 0;
