// des.js has no types of its own. These are of what is used here.
declare module "des.js" {
  interface Cipher {
    update(data: Uint8Array): number[];
    final(): number[];
  }
  interface Options {
    type: "encrypt" | "decrypt";
    key: Uint8Array;
    iv: Uint8Array;
  }
  export const EDE: unique symbol;
  export const CBC: { instantiate(base: typeof EDE): { create(options: Options): Cipher } };
}
