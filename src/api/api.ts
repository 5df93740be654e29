/**
 * The REST API: writes intent, reads the store and the controller's memory, wakes the controller. It decides nothing
 * about a cluster, and it is a plugin without a port: main (or a test) listens.
 */
import swagger from '@fastify/swagger';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifySchema,
  fastify,
  LogController,
  type RawServerDefault,
} from 'fastify';
import { jsonSchemaTransform, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { requireAuth } from './auth.ts';
import { refuseBrokenRequest } from './broken-requests.ts';
import type { ApiDeps } from './deps.ts';
import { docsPage, docsPolicy } from './docs-page.ts';
import { answerUnknownRoutes, handleError, serializerCompiler, validatorCompiler } from './problems.ts';
import { addDownloadRoute } from './routes/backup-download.ts';
import { addBackupKeyRoute } from './routes/backup-key.ts';
import { addBackupPolicyRoutes, addVerificationRoutes } from './routes/backup-policy.ts';
import { addBackupRoutes } from './routes/backups.ts';
import { addClusterChanges, addClusterRoutes, addEndpointRoutes } from './routes/clusters.ts';
import { addFailoverRoutes } from './routes/failovers.ts';
import { addMemberRoutes } from './routes/members.ts';
import { addEventRoutes, addHealthRoutes, addOperationRoutes } from './routes/operations.ts';
import { addRecoveryWindowRoutes } from './routes/recovery-window.ts';
import { addRestoreRoutes } from './routes/restores.ts';
import { addRetainedRoutes } from './routes/retained.ts';
import { addTailFileRoutes } from './routes/tail-files.ts';
import { addTailRoutes } from './routes/tails.ts';
import { problemView } from './schemas.ts';
import { createStreams } from './streams.ts';

export type { ApiDeps } from './deps.ts';

const BODY_BYTES_MAX = 64 * 1024;
/** For the whole request to arrive. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Nothing said on a connection; streams say something every 15 s. */
const SILENCE_TIMEOUT_MS = 60_000;

/** Makes the app; `close()` also ends all streams. */
export function createApi(deps: ApiDeps): FastifyInstance {
  const app = fastify({
    loggerInstance: deps.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: SILENCE_TIMEOUT_MS,
    forceCloseConnections: true,
    clientErrorHandler: refuseBrokenRequest,
    frameworkErrors: handleError,
  });
  // Bodies are JSON and nothing else; the built-in text parser would take text/plain.
  app.removeContentTypeParser('text/plain');
  app.setValidatorCompiler(validatorCompiler as never);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(handleError);
  app.addHook('onSend', async (_request, reply) => {
    void reply.header('x-content-type-options', 'nosniff').header('cache-control', 'no-store');
  });
  answerUnknownRoutes(app);
  requireAuth(app, deps.auth);
  addDocs(app);
  const streams = createStreams(app, deps.clock);
  app.register((plugin, _options, done) => {
    const routes = plugin.withTypeProvider<ZodTypeProvider>();
    addClusterRoutes(routes, deps);
    addClusterChanges(routes, deps);
    addEndpointRoutes(routes, deps, streams);
    addFailoverRoutes(routes, deps);
    addBackupRoutes(routes, deps);
    addBackupPolicyRoutes(routes, deps);
    addBackupKeyRoute(routes, deps);
    addVerificationRoutes(routes, deps);
    addDownloadRoute(routes, deps);
    addMemberRoutes(routes, deps);
    addRecoveryWindowRoutes(routes, deps);
    addRestoreRoutes(routes, deps);
    addRetainedRoutes(routes, deps);
    addTailRoutes(routes, deps);
    addTailFileRoutes(routes, deps);
    addEventRoutes(routes, deps, streams);
    addOperationRoutes(routes, deps);
    addHealthRoutes(routes, deps);
    done();
  });
  return app;
}

/** Every route may answer with a problem; said here once, and only to the description. */
function withProblem(schema: FastifySchema): FastifySchema {
  const content = { 'application/problem+json': { schema: problemView } };
  const response = (schema?.response as object | undefined) ?? { 200: z.unknown().describe('Done') };
  return { ...schema, response: { ...response, default: { description: 'A problem, by RFC 9457', content } } };
}

function addDocs(app: FastifyInstance<RawServerDefault>): void {
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Selvedge', description: 'MySQL replication clusters on Apache Mesos', version: '1' },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
      security: [{ bearer: [] }],
    },
    transform: (route) => jsonSchemaTransform({ ...route, schema: withProblem(route.schema) }),
  });
  app.register((plugin, _options, done) => {
    const options = { config: { role: 'open' as const }, schema: { hide: true } };
    plugin.get('/openapi.json', options, async () => app.swagger());
    plugin.get('/docs', options, async (_request, reply) =>
      reply.type('text/html; charset=utf-8').header('content-security-policy', docsPolicy).send(docsPage),
    );
    done();
  });
}
