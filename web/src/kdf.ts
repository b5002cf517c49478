import type { CHash } from "@noble/hashes/utils.js";

/** What the derived octets are for (RFC 7292 appendix B.3). */
export const purpose = { key: 1, iv: 2, mac: 3 } as const;

/**
 * derive makes octets of a password as PKCS #12 does (RFC 7292 appendix B.2).
 * Nothing else uses this function any more, so no library of the browser has it.
 */
export function derive(hash: CHash, id: number, password: string, salt: Uint8Array, iterations: number, length: number): Uint8Array {
  const v = hash.blockLen;
  const input = concat(fill(salt, v), fill(bmpString(password), v));
  const diversifier = new Uint8Array(v).fill(id);
  const out = new Uint8Array(length);
  for (let at = 0; at < length; at += hash.outputLen) {
    let a = hash(concat(diversifier, input));
    for (let i = 1; i < iterations; i++) a = hash(a);
    out.set(a.subarray(0, length - at), at);
    const b = fill(a, v).subarray(0, v);
    for (let block = 0; block < input.length; block += v) addOne(input.subarray(block, block + v), b);
  }
  return out;
}

// bmpString is a text in UTF-16, big endian, with a NUL behind it.
function bmpString(text: string): Uint8Array {
  const out = new Uint8Array(2 * text.length + 2);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    out[2 * i] = unit >> 8;
    out[2 * i + 1] = unit & 0xff;
  }
  return out;
}

// fill repeats octets up to whole blocks of v.
function fill(octets: Uint8Array, v: number): Uint8Array {
  const out = new Uint8Array(v * Math.ceil(octets.length / v));
  for (let i = 0; i < out.length; i++) out[i] = octets[i % octets.length]!;
  return out;
}

// addOne adds b + 1 to block, both big-endian numbers, and forgets what overflows.
function addOne(block: Uint8Array, b: Uint8Array): void {
  let carry = 1;
  for (let i = block.length - 1; i >= 0; i--) {
    carry += block[i]! + b[i]!;
    block[i] = carry & 0xff;
    carry >>= 8;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
