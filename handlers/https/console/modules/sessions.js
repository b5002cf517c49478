// The web sessions of all accounts.
import { sessionColumns } from "./cells.js";
import { find } from "./dom.js";
import { all, page } from "./frame.js";
import { Table } from "./table.js";

const table = new Table(find("#sessions"), (s) => s.id, sessionColumns({ account: true }));

page({ load: async (signal) => table.show((await all("/sessions", {}, 1000, signal)).items), every: 10 });
