import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseServices } from '../../agent/config/service-file.ts';

const WEB = `name: web
type: LoadBalancer
frontends:
  - { address: 172.190.0.17, port: 80 }
backends:
  - { address: 10.0.1.10, port: 8000 }
sessionAffinity: { timeout: 3h }
`;

function services(text: string) {
  assert.deepEqual(problems(text), []);
  return parseServices(text, 'web.yaml').services as { name: string }[];
}

/** Of the file, or else of its services by themselves. */
function problems(text: string): string[] {
  const { services, errors, explain } = parseServices(text, 'web.yaml');
  const all = errors.length > 0 ? errors : services.flatMap((_, i) => explain(i));
  return all.map(({ message }) => message);
}

describe('a file of services', () => {
  it('may hold one service, as the user wrote it', () => {
    assert.deepEqual(services(WEB), [
      {
        name: 'web',
        type: 'LoadBalancer',
        frontends: [{ address: '172.190.0.17', port: 80 }],
        backends: [{ address: '10.0.1.10', port: 8000 }],
        sessionAffinity: { timeout: '3h' },
      },
    ]);
  });

  it('may hold a list, bare or under services', () => {
    const names = (text: string) => services(text).map(({ name }) => name);
    assert.deepEqual(names('- name: a\n- name: b\n'), ['a', 'b']);
    assert.deepEqual(names('services:\n  - name: a\n  - name: b\n'), ['a', 'b']);
    assert.deepEqual(names('services: []\n'), []);
  });

  it('may be JSON', () => {
    assert.equal(services('{"services": [{"name": "web", "nodePort": 30001}]}').length, 1);
    assert.equal(services('[{"name": "web"}]').length, 1);
    assert.equal(services('{"name": "web", "nodePort": null}').length, 1);
    assert.match(
      problems('[{"name": 7}]')[0] ?? '',
      /^web\.yaml:1:11: \[0\]\.name: expected a name/,
    );
  });

  it('says where each service stands', () => {
    const places = (text: string) => {
      const { services, placeOf } = parseServices(text, 'f');
      return services.map((_, i) => Object.values(placeOf(i)));
    };
    assert.deepEqual(places(WEB), [[1, 7]]);
    assert.deepEqual(places('- name: a\n- type: ClusterIP\n  name: b\n'), [
      [1, 9],
      [3, 9],
    ]);
    assert.deepEqual(places('services:\n  - name: a\n'), [[2, 11]]);
    assert.deepEqual(places('[\n{"name": "web"}]'), [[2, 10]]);
  });
});

describe('what is wrong in a file of services', () => {
  it('is told with line, column and the path from the root of the file', () => {
    const wrong = WEB.replace('port: 80 ', 'port: 0 ');
    const message = 'expected a whole number from 1 to 65535, got 0; example: port: 80';
    assert.deepEqual(problems(wrong), [`web.yaml:4:36: frontends[0].port: ${message}`]);
    const list = '- name: a\n- { name: b, frontends: [{ address: 10.96.0.1, port: 0 }] }\n';
    assert.deepEqual(problems(list), [`web.yaml:2:54: [1].frontends[0].port: ${message}`]);
  });

  it('is told all at once, in the order of the file', () => {
    const wrong = WEB.replace('LoadBalancer', 'Balancer').replace('3h', 'soon');
    assert.deepEqual(
      problems(wrong).map((line) => line.slice(0, 'web.yaml:0:00'.length)),
      ['web.yaml:2:7:', 'web.yaml:7:29'],
    );
  });

  it('may be an unknown key, and the nearest known one is named', () => {
    assert.deepEqual(problems('name: web\nbackend: []\n'), [
      'web.yaml:2:1: backend: unknown key "backend"; did you mean "backends"?',
    ]);
    const [other] = problems('services: []\nnode: {}\n');
    assert.match(other ?? '', /^web\.yaml:2:1: node: unknown key "node"/);
  });

  it('may be its syntax, that a name is missing, or that there are no services', () => {
    assert.match(problems('name: [web\n')[0] ?? '', /^web\.yaml:\d+:\d+: /);
    assert.match(problems('type: ClusterIP\n')[0] ?? '', /^web\.yaml:1:1: name: missing; expected/);
    assert.match(problems('')[0] ?? '', /^web\.yaml:1:1: services: missing; expected a list/);
    assert.match(problems('web\n')[0] ?? '', /^web\.yaml:1:1: expected a mapping/);
  });

  it('is told of each service by itself', () => {
    const heavy = '{ name: b, backends: [{ address: 10.0.1.1, port: 1, weight: 65536 }] }';
    const { services, errors, explain } = parseServices(`- name: a\n- ${heavy}\n- web\n`, 'f');
    assert.deepEqual([services.length, errors], [3, []]);
    assert.deepEqual(
      services.map((_, i) => explain(i).map(({ line, column, path }) => [line, column, path])),
      [[], [[2, 63, '[1].backends[0].weight']], [[3, 3, '[2]']]],
    );
  });
});
