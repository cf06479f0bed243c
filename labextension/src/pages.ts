// Where the hub's own pages are, seen from a server behind the same hub.

import { PageConfig } from '@jupyterlab/coreutils';

/** Return the address of the console's pages, beside the hub's. */
export function pagesUrl(): string {
  const hub = PageConfig.getOption('hubPrefix') || '/hub/';
  return `${hub.replace(/hub\/$/, '')}services/console/`;
}
