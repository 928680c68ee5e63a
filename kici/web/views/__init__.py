"""One blueprint a file; a view reads the projection or sends a wish, and answers."""

from kici.web.views import api, cluster, drain, health, metrics, openapi, page, reload, status

BLUEPRINTS = (
    health.blueprint,
    status.blueprint,
    drain.blueprint,
    cluster.blueprint,
    metrics.blueprint,
    api.blueprint,
    reload.blueprint,
    openapi.blueprint,
    page.blueprint,
)
