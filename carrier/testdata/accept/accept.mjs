// Holds the golden answers and the signatures of carrier/*/testdata against the
// carriers' own packages; README.md beside it says how to run it.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { answers } from './answers.mjs';
import { signatures } from './signatures.mjs';

// carriers is the folder carrier of this repository, or of the one that is named.
const carriers = process.argv[2] ? pathToFileURL(`${process.argv[2]}/`) : new URL('../../', import.meta.url);
const read = (path) => readFileSync(new URL(path, carriers), 'utf8');

let failed = 0;
const check = async (name, test) => {
  try {
    await test();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}\n${error.message}\n`);
  }
};

for (const [path, accept] of Object.entries(answers)) await check(path, () => accept(read(path)));

for (const [carrier, { vectors, accepts, spoil }] of Object.entries(signatures)) {
  for (const [i, vector] of vectors(JSON.parse(read(`${carrier}/testdata/signatures.json`))).entries()) {
    await check(`${carrier} signature ${i + 1}: ${vector.name ?? 'webhook'}`, async () => {
      assert.ok(await accepts(vector), 'the package does not accept it');
      assert.ok(!await accepts(spoil(vector)), 'the package accepts it with another signature too');
    });
  }
}

// Exotel has no package. Every other golden answer must have been held against one.
for (const carrier of ['twilio', 'telnyx', 'plivo', 'vonage', 'jambonz']) {
  const folder = new URL(`${carrier}/testdata/`, carriers);
  for (const file of existsSync(folder) ? readdirSync(folder) : []) {
    if (!/^(?!signatures).*\.(xml|json)$/.test(file)) continue;
    await check(`${carrier}/testdata/${file} is among the answers`, () => assert.ok(`${carrier}/testdata/${file}` in answers));
  }
}

console.log(failed ? `${failed} not accepted` : 'all accepted');
process.exitCode = failed ? 1 : 0;
