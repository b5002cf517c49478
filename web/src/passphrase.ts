// No letters that are taken for digits or for each other.
const alphabet = "23456789abcdefghijkmnpqrstuvwxyz";

/**
 * makePassphrase returns 100 random bits in five groups. Files that are locked
 * with it hold out against guessing whatever their format does to slow it.
 */
export function makePassphrase(): string {
  const random = crypto.getRandomValues(new Uint8Array(20));
  const letters = Array.from(random, (b) => alphabet[b % alphabet.length]).join("");
  return letters.match(/.{4}/g)!.join("-");
}
