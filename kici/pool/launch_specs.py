"""What a backend is told of an agent to start: environment, token, limits (2.8, 2.9)."""

from kici.config.model import ResourceSpec, Scaler, Settings
from kici.pool.actions import LaunchAgent
from kici.pool.environment import agent_environment, labels_for
from kici.pool.scalers.base import LaunchSpec
from kici.pool.tokens import TokenIssuer


class LaunchSpecs:
    """Owns: how long tokens are good. Told by: the fleet."""

    def __init__(self, settings: Settings, issuer: TokenIssuer) -> None:
        self._settings, self._issuer = settings, issuer
        self.token_ttl_s = settings.agent_token_ttl_s

    def make(self, action: LaunchAgent, scaler: Scaler) -> LaunchSpec:
        """SECRET: the environment holds the agent's token."""
        label_set = scaler.label_sets[action.label_set]
        token = None
        if self._settings.agent_auth == "token":
            labels = labels_for(scaler, label_set)
            token = self._issuer.issue(action.agent_id, labels, self.token_ttl_s)
        return LaunchSpec(
            agent_id=action.agent_id,
            scaler=scaler,
            label_set=label_set,
            env=agent_environment(self._settings, scaler, label_set, action.agent_id, token),
            limits=action.limits if action.limits != ResourceSpec() else None,
            run_id=action.run_id,
            job_id=action.job_id,
            image=action.image or label_set.image,
            registry_auth=action.registry_auth,
        )
