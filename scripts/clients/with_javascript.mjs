// The AWS SDK for JavaScript against the emulator. Usage: node with_javascript.mjs PROGRAM POSTGRESQL_URL

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// The packages are installed beside package.json's copy under the user's cache, which is the working
// directory.
const require = createRequire(`${process.cwd()}/package.json`);
const {
    BatchExecuteStatementCommand,
    CancelStatementCommand,
    DescribeStatementCommand,
    ExecuteStatementCommand,
    GetStatementResultCommand,
    ListStatementsCommand,
    RedshiftDataClient,
    ResourceNotFoundException,
    ValidationException,
    paginateGetStatementResult,
    paginateListTables,
} = require("@aws-sdk/client-redshift-data");
const { version } = require("@aws-sdk/client-redshift-data/package.json");

const [program, postgres] = process.argv.slice(2);
const place = { ClusterIdentifier: "dwh", Database: "dev" };

async function start(...options) {
    const emulator = spawn(program, ["--listen", "127.0.0.1:0", "--postgres", postgres, ...options], { stdio: ["ignore", "pipe", "inherit"] });
    process.on("exit", () => emulator.kill("SIGKILL"));
    const [line] = await once(createInterface({ input: emulator.stdout }), "line");
    return { emulator, endpoint: line.replace("listening on ", "") };
}

async function stop(emulator) {
    emulator.kill("SIGTERM");
    assert.deepEqual(await once(emulator, "exit"), [0, null]);
}

const { emulator, endpoint } = await start();

const client = new RedshiftDataClient({
    endpoint,
    region: "eu-west-1",
    credentials: { accessKeyId: "any", secretAccessKey: "any" },
    maxAttempts: 1,
});

const done = await client.send(
    new ExecuteStatementCommand({
        Sql: "SELECT n, n::text AS name, NULL AS nothing, n / 2.0::float8 AS half, n > 1 AS many FROM generate_series(1, :high::int) AS n",
        Parameters: [{ name: "high", value: "1500" }],
        WaitTimeSeconds: 20,
        ...place,
    }),
);
assert.equal(done.Status, "FINISHED");
assert.ok(done.CreatedAt instanceof Date && Math.abs(done.CreatedAt - Date.now()) < 60_000, `${done.CreatedAt}`);
const rows = [];
for await (const page of paginateGetStatementResult({ client }, { Id: done.Id })) rows.push(...page.Records);
assert.equal(rows.length, 1500);
assert.deepEqual(rows[0], [
    { longValue: 1 },
    { stringValue: "1" },
    { isNull: true },
    { doubleValue: 0.5 },
    { booleanValue: false },
]);

const batch = await client.send(
    new BatchExecuteStatementCommand({ Sqls: ["SELECT 1", "SELECT 1 / 0"], ExecutionMode: "AUTO_COMMIT", WaitTimeSeconds: 20, ...place }),
);
const described = await client.send(new DescribeStatementCommand({ Id: batch.Id }));
assert.deepEqual(described.SubStatements.map((sub) => sub.Status), ["FINISHED", "FAILED"]);
assert.match(described.SubStatements[1].Error, /division by zero/);

const nap = await client.send(new ExecuteStatementCommand({ Sql: "SELECT pg_sleep(600)", WaitTimeSeconds: 1, ...place }));
assert.equal(nap.Status, "STARTED");
assert.equal((await client.send(new CancelStatementCommand({ Id: nap.Id }))).Status, true);
const ended = await client.send(new DescribeStatementCommand({ Id: nap.Id, WaitTimeSeconds: 20 }));
assert.equal(ended.Status, "ABORTED");

const listed = await client.send(new ListStatementsCommand({ Status: "ABORTED", MaxResults: 1 }));
assert.equal(listed.Statements[0].Id, nap.Id);
let tables = 0;
for await (const page of paginateListTables({ client, pageSize: 50 }, { SchemaPattern: "pg_catalog", ...place })) tables += page.Tables.length;
assert.ok(tables > 100, `${tables}`);

await assert.rejects(
    client.send(new GetStatementResultCommand({ Id: "d9b6c0c9-0747-4bf4-b142-e8883122f766" })),
    (error) => error instanceof ResourceNotFoundException && error.ResourceId.startsWith("d9b6c0c9"),
);
await assert.rejects(
    client.send(new DescribeStatementCommand({ Id: "not-an-id" })),
    (error) => error instanceof ValidationException && error.$metadata.httpStatusCode === 400 && /regular expression/.test(error.message),
);

client.destroy();
await stop(emulator);

// Every second request is throttled, gets a status 500 or loses its connection. The SDK retries, each call
// keeps one token, and every
// statement runs once.
const directory = mkdtempSync(join(tmpdir(), "faults-"));
const kinds = { throttle: 0.2, "internal error": 0.15, "lost request": 0.05, "lost reply": 0.15, "dropped connection": 0.05 };
const faults = Object.entries(kinds).map(([fault, rate]) => `[[fault]]\nfault = "${fault}"\nrate = ${rate.toFixed(2)}\n`);
writeFileSync(join(directory, "faults.toml"), `seed = 11\n${faults.join("")}`);
const bad = await start("--faults", join(directory, "faults.toml"));
// All retries of a client share one quota, so each client does only a little.
const patiently = async (work) => {
    const patient = new RedshiftDataClient({
        endpoint: bad.endpoint,
        region: "eu-west-1",
        credentials: { accessKeyId: "any", secretAccessKey: "any" },
        maxAttempts: 20,
    });
    const worked = await work(patient);
    patient.destroy();
    return worked;
};
const table = `clients_js_${Date.now()}`;
const finished = (Sql) => patiently(async (patient) => {
    const { Id } = await patient.send(new ExecuteStatementCommand({ Sql, ...place }));
    for (;;) {
        const { Status, Error } = await patient.send(new DescribeStatementCommand({ Id, WaitTimeSeconds: 10 }));
        if (Status === "FINISHED") return Id;
        assert.ok(["SUBMITTED", "PICKED", "STARTED"].includes(Status), `${Status}: ${Error}`);
    }
});
await finished(`CREATE TABLE ${table} (n int)`);
await Promise.all(Array.from({ length: 60 }, (_, n) => finished(`INSERT INTO ${table} VALUES (${n})`)));
const counted = await finished(`SELECT count(*), count(DISTINCT n) FROM ${table}`);
const { Records } = await patiently((patient) => patient.send(new GetStatementResultCommand({ Id: counted })));
assert.deepEqual(Records, [[{ longValue: 60 }, { longValue: 60 }]]);
await finished(`DROP TABLE ${table}`);
await stop(bad.emulator);
rmSync(directory, { recursive: true });
console.log(`AWS SDK for JavaScript ${version}: results on all pages, batch, cancel, listings, errors; 60 statements once each despite faults`);
