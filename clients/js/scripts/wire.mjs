// Makes the wire types from the protocol's JSON Schema; with --check only says whether they are current.

import { readFile, writeFile } from 'node:fs/promises';
import { compile } from 'json-schema-to-typescript';

const SCHEMA = new URL('../../../protocol/schema/rollcall-v1.schema.json', import.meta.url);
const TYPES = new URL('../client/wire.d.ts', import.meta.url);

const schema = JSON.parse(await readFile(SCHEMA, 'utf8'), (_, value) => {
  // A description beside a $ref would make a type of its own of it.
  if (value?.$ref) return { $ref: value.$ref };
  if (typeof value?.description === 'string' && Object.keys(value).length === 1) return { ...value, tsType: 'unknown' };
  if (value?.type === 'object' && !value.properties) return { ...value, additionalProperties: true };
  return value;
});
const types = await compile(schema, 'Wire', {
  additionalProperties: false,
  bannerComment: '// Made by scripts/wire.mjs from the protocol\'s JSON Schema. Do not edit.',
  style: { singleQuote: true },
});

if (!process.argv.includes('--check')) {
  await writeFile(TYPES, types);
} else if (types !== await readFile(TYPES, 'utf8')) {
  console.error('client/wire.d.ts is not what protocol/schema says: npm run wire');
  process.exit(1);
}
