/** Whether tests are to run in full: SEKISHO_TEST_LONG=1. They take minutes then. */
export const LONG = process.env.SEKISHO_TEST_LONG === '1';

/** The amount of a long run, or that of the usual one. */
export function atLength(usual: number, long: number): number {
  return LONG ? long : usual;
}
