"""The uploader without markup, in a real browser: what an option or a call changes."""

from __future__ import annotations

import pytest

from .desk import Desk

pytestmark = pytest.mark.once

PRELUDE = """async () => {
    const base = '/static/resumable_uploads';
    const {ResumableUploader} = await import(`${base}/uploader.js`);
    const {XhrTransport} = await import(`${base}/transport.js`);
    const sent = window.sent = {log: [], now: 0, most: 0, answer: () => null};
    class Watched extends XhrTransport {
        async send(request) {
            const counts = request.method === 'PUT' ? 1 : 0;
            sent.log.push(`${request.method} ${new URL(request.url).pathname}`);
            sent.most = Math.max(sent.most, (sent.now += counts));
            const made = sent.answer(request);
            const answer = made ?? await super.send(request);
            sent.now -= counts;
            return answer;
        }
    }
    let number = 0;
    window.file = (size, name, type = '') =>
        new File([`${number += 1}`.padStart(size, '.').slice(-size)], name, {type});
    window.make = (options) => new ResumableUploader({
        endpoint: '/uploads/', transport: new Watched(), ...options});
    window.ended = (upload, ...states) => new Promise((resolve) => {
        const wanted = [...states, 'complete'];
        const look = () => wanted.includes(upload.state) ? resolve(upload)
            : setTimeout(look, 10);
        look();
    });
    window.halfway = async (uploader, upload) => {
        const listening = new AbortController();
        await new Promise((resolve) => uploader.addEventListener('progress', () => {
            if (upload.received > 0) resolve(upload.pause());
        }, {signal: listening.signal}));
        listening.abort();
    };
    window.refusal = (status) => ({status, redirected: false, text: '{}',
        header: () => null});
}"""

SCENARIOS = {
    "chunk size by function": (
        """const uploader = make({chunkSize: (file) => file.size / 3});
        const [upload] = uploader.add([file(300, 'a')]);
        await ended(upload);
        const chunks = sent.log.filter((line) => line[1] === 'U');
        return [upload.server.chunk_size, chunks.length];""",
        [100, 3],
    ),
    "larger chunks on a good line": (
        """const uploader = make({});
        await uploader.fetchLimits();
        const [one] = uploader.add([file(3e6, 'a')]);
        await ended(one);
        const [two] = uploader.add([file(3e6, 'b')]);
        await ended(two);
        return two.server.chunk_size >= 2 * one.server.chunk_size;""",
        True,
    ),
    "ends first": (
        """const uploader = make({endsFirst: true, parallel: 1, chunkSize: 10});
        await ended(uploader.add([file(40, 'a')])[0]);
        return sent.log.filter((l) => l[1] === 'U').map((l) => l.at(-2)).join('');""",
        "0312",
    ),
    "one budget": (
        """const uploader = make({parallel: 2, chunkSize: 1000});
        const files = ['a', 'b', 'c'].map((name) => file(5000, name));
        await Promise.all(uploader.add(files).map((upload) => ended(upload)));
        return sent.most;""",
        2,
    ),
    "custom keys and data": (
        """const uploader = make({chunkSize: 1000, parallel: 1,
            customKeys: () => ['album']});
        const chosen = file(50000, 'kept.bin');
        const [upload] = uploader.add([chosen]);
        upload.setCustomResumeData({album: 7});
        await halfway(uploader, upload);
        const plain = make({parallel: 1, autoStart: false});
        const item = plain.getResumableFiles().find((i) => i.name === 'kept.bin');
        const again = make({customKeys: () => ['album']});
        const [same] = again.add([chosen]);
        await ended(same);
        const [other] = plain.add([chosen]);
        plain.start();
        await ended(other);
        return [item.custom, same.server.id === upload.server.id,
            same.customResumeData, other.key === same.key];""",
        [{"album": 7}, True, {"album": 7}, False],
    ),
    "initial list": (
        """const earlier = make({});
        const [done] = earlier.add([file(10, 'earlier.txt')]);
        await ended(done);
        const uploader = make({initial: [done.server]});
        const [upload] = uploader.uploads;
        const known = await make({}).addComplete();
        const deleted = await upload.delete();
        const gone = await fetch(done.server.url).then((answer) => answer.json());
        return [upload.name, upload.state === 'cancelled', deleted,
            known.some((other) => other.name === 'earlier.txt'), gone.state];""",
        ["earlier.txt", True, True, True, "cancelled"],
    ),
    "per file": (
        """const asked = new Set();
        const uploader = make({
            endpoint: (file) => file ? '/uploads/' : '/nowhere/',
            policy: () => 'default',
            headers: ({upload}) => (asked.add(upload.name), {'X-Test': upload.name}),
            metadata: (file) => ({kind: file.type})});
        const [upload] = uploader.add([file(10, 'a.png', 'image/png')]);
        await ended(upload);
        return [upload.server.metadata, [...asked], upload.server.policy];""",
        [{"kind": "image/png"}, ["a.png"], "default"],
    ),
    "renamed": (
        """const uploader = make({autoStart: false});
        const [upload] = uploader.add([file(10, 'draft.txt')]);
        upload.rename('final.txt');
        uploader.start();
        await ended(upload);
        return upload.server.filename;""",
        "final.txt",
    ),
    "preprocess": (
        """const uploader = make({preprocess: async (file) =>
            new Blob([(await file.text()).replaceAll('.', '-')])});
        const [upload] = uploader.add([{file: new Blob(['a.b']), name: 'x'}]);
        await ended(upload);
        return fetch(upload.server.file.url).then((answer) => answer.text());""",
        "a-b",
    ),
    "veto": (
        """const later = (answer) => new Promise((resolve) =>
            setTimeout(() => resolve(answer), 20));
        const uploader = make({onSubmit: (upload) => later(upload.name !== 'no')});
        const [yes, no] = uploader.add([file(9, 'yes'), file(9, 'no')]);
        await ended(yes);
        await ended(no, 'cancelled');
        return [yes.state, no.state, sent.log.filter((l) => l[1] === 'O').length];""",
        ["complete", "cancelled", 2],
    ),
    "empty and tiny": (
        """const uploader = make({emptyFiles: false, minSize: 5});
        const codes = [];
        uploader.addEventListener('refused', (event) => codes.push(event.detail.code));
        uploader.add([new File([], 'empty'), file(4, 'tiny')]);
        return codes;""",
        ["empty", "too_small"],
    ),
    "retry by hand": (
        """const uploader = make({retries: 0});
        sent.answer = ({method}) => method === 'PUT' ? refusal(500) : null;
        const [upload] = uploader.add([file(9, 'a')]);
        await ended(upload, 'failed');
        const before = upload.state;
        sent.answer = () => null;
        upload.retry();
        await ended(upload);
        return [before, upload.state];""",
        ["failed", "complete"],
    ),
    "begun anew when it is gone": (
        """const uploader = make({chunkSize: 1000, parallel: 1});
        const [upload] = uploader.add([file(50000, 'a')]);
        await halfway(uploader, upload);
        const old = upload.server;
        await uploader.protocol.discard(old.url);
        upload.resume();
        await ended(upload);
        return [upload.server.id !== old.id, upload.state];""",
        [True, "complete"],
    ),
    "fresh headers after a 401": (
        """const asked = [];
        const uploader = make({headers: ({again}) => (asked.push(again), {})});
        let once = true;
        sent.answer = ({method}) => {
            const refused = once && method === 'POST';
            if (refused) once = false;
            return refused ? refusal(401) : null;
        };
        await ended(uploader.add([file(9, 'a')])[0]);
        return asked.slice(0, 2);""",
        [False, True],
    ),
    "smaller chunks after repeated failure": (
        """const {UploadError} = await import(
            '/static/resumable_uploads/failures.js');
        const real = window.setTimeout;
        window.setTimeout = (call, ms, ...rest) => real(call, ms / 100, ...rest);
        sent.answer = ({body}) => {
            if (body?.size > 300_000) throw new UploadError('network');
        };
        const uploader = make({chunkSize: 1024 * 1024});
        const [upload] = uploader.add([file(1_500_000, 'a')]);
        await ended(upload, 'failed');
        window.setTimeout = real;
        return [upload.state, upload.server.chunk_size];""",
        ["complete", 256 * 1024],
    ),
    "states": (
        """const uploader = make({});
        const states = [];
        uploader.addEventListener('state', (event) => states.push(event.detail.state));
        await ended(uploader.add([file(9, 'a')])[0]);
        return states;""",
        ["preparing", "uploading", "processing", "complete"],
    ),
}


@pytest.fixture(scope="module")
def core_page(browser, site):
    context = browser.new_context()
    yield Desk(context.new_page(), site.url).open().page
    context.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_core_in_a_browser(core_page, name):
    script, expected = SCENARIOS[name]
    core_page.evaluate(PRELUDE)
    within = f"""async () => Promise.race([
        (async () => {{ {script} }})(),
        new Promise((resolve) => setTimeout(() => resolve('It hangs.'), 20_000)),
    ])"""
    assert core_page.evaluate(within) == expected
