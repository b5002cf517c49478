import { BmpString, Constructed, Integer, Null, ObjectIdentifier, OctetString, Primitive, Sequence, Set as ASN1Set } from "asn1js";
import type { BaseBlock } from "asn1js";
import { CBC, EDE } from "des.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { CHash } from "@noble/hashes/utils.js";

import type { Identity } from "./identity";
import { derive, purpose } from "./kdf";

/**
 * Format is the ciphers of a file. "modern" is PBES2 with AES-256 under a MAC
 * with SHA-256, what OpenSSL 3 writes. "compatible" is triple DES with SHA-1,
 * which everything reads, OpenSSL 3 too, and Apple's systems and Android read
 * alone until a few versions ago.
 */
export type Format = "modern" | "compatible";

type Bytes = Uint8Array<ArrayBuffer>;

// Enough of them for a passphrase that is random; more than everything reads.
const iterations = 2048;

const oid = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyID: "1.2.840.113549.1.9.21",
  tripleDES: "1.2.840.113549.1.12.1.3", // pbeWithSHAAnd3-KeyTripleDES-CBC
  pbes2: "1.2.840.113549.1.5.13",
  pbkdf2: "1.2.840.113549.1.5.12",
  hmacSHA256: "1.2.840.113549.2.9",
  aes256CBC: "2.16.840.1.101.3.4.1.42",
  sha1: "1.3.14.3.2.26",
  sha256: "2.16.840.1.101.3.4.2.1",
};

/** toPKCS12 packs an identity under a password and a name (RFC 7292). */
export async function toPKCS12(identity: Identity, name: string, password: string, format: Format): Promise<Bytes> {
  const encrypt = format === "modern" ? encryptPBES2 : encryptTripleDES;
  const attributes = new ASN1Set({
    value: [
      sequence(id(oid.friendlyName), new ASN1Set({ value: [new BmpString({ value: name })] })),
      sequence(id(oid.localKeyID), new ASN1Set({ value: [octets(identity.id)] })),
    ],
  });
  const key = sequence(id(oid.shroudedKeyBag), explicit(sequence(...(await encrypt(identity.privateKey, password)))), attributes);
  const certificate = sequence(
    id(oid.certBag),
    explicit(sequence(id(oid.x509Certificate), explicit(octets(identity.certificate)))),
    attributes,
  );
  const [algorithm, encrypted] = await encrypt(encode(sequence(certificate)), password);
  const safe = encode(
    sequence(
      sequence(
        id(oid.encryptedData),
        explicit(sequence(integer(0), sequence(id(oid.data), algorithm, implicitOctets(encrypted.valueBlock.valueHexView)))),
      ),
      sequence(id(oid.data), explicit(octets(encode(sequence(key))))),
    ),
  );
  const mac = format === "modern" ? macData(sha256, oid.sha256, safe, password) : macData(sha1, oid.sha1, safe, password);
  return encode(sequence(integer(3), sequence(id(oid.data), explicit(octets(safe))), mac));
}

// encryptPBES2 returns an AlgorithmIdentifier (RFC 8018 appendix A) and what was
// encrypted by it.
async function encryptPBES2(plain: Bytes, password: string): Promise<[Sequence, OctetString]> {
  const salt = random(16);
  const iv = random(16);
  const base = await crypto.subtle.importKey("raw", new TextEncoder().encode(password), "PBKDF2", false, ["deriveKey"]);
  const aes = { name: "AES-CBC", length: 256 };
  const key = await crypto.subtle.deriveKey({ name: "PBKDF2", hash: "SHA-256", salt, iterations }, base, aes, false, ["encrypt"]);
  const encrypted = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key, plain));
  const kdf = sequence(id(oid.pbkdf2), sequence(octets(salt), integer(iterations), sequence(id(oid.hmacSHA256), new Null())));
  return [sequence(id(oid.pbes2), sequence(kdf, sequence(id(oid.aes256CBC), octets(iv)))), octets(encrypted)];
}

// encryptTripleDES does the same by RFC 7292 appendix C.
async function encryptTripleDES(plain: Bytes, password: string): Promise<[Sequence, OctetString]> {
  const salt = random(8);
  const cipher = CBC.instantiate(EDE).create({
    type: "encrypt",
    key: derive(sha1, purpose.key, password, salt, iterations, 24),
    iv: derive(sha1, purpose.iv, password, salt, iterations, 8),
  });
  const encrypted = new Uint8Array([...cipher.update(plain), ...cipher.final()]);
  return [sequence(id(oid.tripleDES), sequence(octets(salt), integer(iterations))), octets(encrypted)];
}

function macData(hash: CHash, hashID: string, safe: Uint8Array, password: string): Sequence {
  const salt = random(8);
  const digest = hmac(hash, derive(hash, purpose.mac, password, salt, iterations, hash.outputLen), safe);
  return sequence(sequence(sequence(id(hashID), new Null()), octets(digest)), octets(salt), integer(iterations));
}

const random = (length: number): Bytes => crypto.getRandomValues(new Uint8Array(length));
const sequence = (...value: BaseBlock[]) => new Sequence({ value });
const integer = (value: number) => new Integer({ value });
const id = (value: string) => new ObjectIdentifier({ value });
const octets = (value: Uint8Array) => new OctetString({ valueHex: new Uint8Array(value).buffer });
const contextTag = { tagClass: 3, tagNumber: 0 }; // [0]
const explicit = (inner: BaseBlock) => new Constructed({ idBlock: contextTag, value: [inner] });
const implicitOctets = (value: Uint8Array) => new Primitive({ idBlock: contextTag, valueHex: new Uint8Array(value).buffer });
const encode = (block: BaseBlock): Bytes => new Uint8Array(block.toBER());
