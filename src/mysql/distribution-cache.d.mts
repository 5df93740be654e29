export interface Manifest {
  readonly format: number;
  readonly version: string;
  readonly architecture: string;
  /** Paths below the distribution's home. */
  readonly loader: string;
  readonly libraryPath: string;
  readonly packages: readonly { readonly name: string; readonly version: string; readonly sha256: string }[];
  readonly marks: Readonly<Record<string, number>>;
}
export const series: string;
export const manifestName: string;
export const manifestFormat: number;
export function readManifest(home: string): Manifest | null;
export function isComplete(home: string): boolean;
export function listDistributions(cacheDir: string): string[];
