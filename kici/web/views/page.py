"""The status page for people at ``/``."""

from flask import Blueprint, render_template

from kici.web.desk import desk
from kici.web.page import page_facts

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
def page() -> str:
    return render_template("page.html", **page_facts(desk()))
