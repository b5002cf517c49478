import "reflect-metadata"; // for what @peculiar/x509 stands on
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** Identity is a private key and the certificate that carries its public key. */
export interface Identity {
  /** PKCS #8 (RFC 5958), DER. */
  privateKey: Uint8Array<ArrayBuffer>;
  /** X.509, DER. */
  certificate: Uint8Array<ArrayBuffer>;
  /** SHA-1 of the certificate: what ties the two together in a PKCS #12 file. */
  id: Uint8Array<ArrayBuffer>;
}

// The upper bound of a common name (RFC 5280 appendix A.1).
const maxCommonName = 64;

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/**
 * makeIdentity makes a key, and a certificate that names the address. The
 * gateway looks at the public key alone; the rest is for mail programs, which
 * show the name and skip certificates that have ended or are for other uses.
 */
export async function makeIdentity(address: string): Promise<Identity> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: new Name([{ CN: [{ utf8String: shorten(address) }] }]),
    notBefore: new Date(Date.now() - 60 * 60 * 1000), // for clocks that are behind
    notAfter: new Date("9999-12-31T23:59:59Z"), // never (RFC 5280 section 4.1.2.5)
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]),
      // An rfc822Name is ASCII (RFC 5280 section 4.2.1.6).
      ...(/^[\x21-\x7e]+$/.test(address) ? [new SubjectAlternativeNameExtension([{ type: "email", value: address }])] : []),
    ],
  });
  return {
    privateKey: new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey)),
    certificate: new Uint8Array(certificate.rawData),
    id: new Uint8Array(await crypto.subtle.digest("SHA-1", certificate.rawData)),
  };
}

// serialNumber is 126 random bits in hex: a positive number without leading
// zeros, which some programs do not take.
function serialNumber(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

function shorten(address: string): string {
  return Array.from(address).slice(0, maxCommonName).join("");
}
