"""One blueprint a file; a view reads the projection or sends a wish, and answers."""

from kici.web.views import api, cluster, drain, openapi, page, reload, status

BLUEPRINTS = (
    status.blueprint,
    drain.blueprint,
    cluster.blueprint,
    api.blueprint,
    reload.blueprint,
    openapi.blueprint,
    page.blueprint,
)
