// The official TypeScript SDK against the server; prints what it saw as one JSON object. Its folder is the second argument.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.argv[3] + '/x.js');
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { Client } = await load('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = await load('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { ElicitRequestSchema } = await load('@modelcontextprotocol/sdk/types.js');

const seen = { progress: [] };
const client = new Client({ name: 'ts', version: '1.0.0' }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  seen.asked = request.params.message;
  return { action: 'accept', content: { option: 'no', reason: 'tested' } };
});
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
seen.server = client.getServerVersion().name;
seen.tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
const onprogress = (said) => seen.progress.push(said.message);
const echo = await client.callTool({ name: 'git_echo', arguments: { text: 'from node' } }, undefined, { onprogress });
seen.echo = echo.structuredContent;
seen.bad = await client.callTool({ name: 'git_echo', arguments: { text: 5 } }).catch((error) => error.message);
seen.run = (await client.callTool({ name: 'workflow_start', arguments: { workflow: 'deploy', wait_s: 20 } })).structuredContent;
await client.close();
console.log(JSON.stringify(seen));
