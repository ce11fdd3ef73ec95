// node-redis's cluster client, each core of the server being a node to it.
const assert = require('assert');
const { createCluster } = require('redis');

async function main(port) {
    const r = createCluster({ rootNodes: [{ socket: { port, host: '127.0.0.1' } }] });
    await r.connect();
    assert.strictEqual(r.getMasters().length, 4);
    const numbers = [...Array(1000).keys()];
    await Promise.all(numbers.map((i) => r.set(`k${i}`, String(i))));
    assert.deepStrictEqual(await Promise.all(numbers.map((i) => r.get(`k${i}`))), numbers.map(String));
    assert.deepStrictEqual(await r.multi().set('{t}a', '1').incr('{t}a').exec(), ['OK', 2]);
    // Every node tells of its own keys: together they have each once.
    const nodes = await Promise.all(r.getMasters().map((m) => (r.nodeClient ? r.nodeClient(m) : m.client)));
    const sizes = await Promise.all(nodes.map((n) => n.dbSize()));
    assert.strictEqual(sizes.reduce((a, b) => a + b), 1001);
    const scanned = [];
    for (const n of nodes) for await (const key of n.scanIterator({ COUNT: 50 })) scanned.push(key);
    assert.deepStrictEqual(scanned.sort(), numbers.map((i) => `k${i}`).concat('{t}a').sort());
    // Scripts run where their keys are.
    const script = "return redis.call('incr', KEYS[1])";
    const counts = await Promise.all(numbers.slice(0, 50).map((i) => r.eval(script, { keys: [`e${i}`] })));
    assert.deepStrictEqual(counts, Array(50).fill(1));
    const sha = await nodes[0].scriptLoad(script);
    assert.strictEqual(await r.evalSha(sha, { keys: ['e7'] }), 2);
    const code = "#!lua name=lib\nredis.register_function('up', function(k) return redis.call('incr', k[1]) end)";
    await nodes[0].functionLoad(code);
    const more = await Promise.all(numbers.slice(0, 50).map((i) => r.fCall('up', { keys: [`f${i}`], arguments: [] })));
    assert.deepStrictEqual(more, Array(50).fill(1));
    await r.quit();
}

main(Number(process.argv[2])).catch((error) => {
    console.error(error);
    process.exit(1);
});
