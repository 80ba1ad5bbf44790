"""The ways out that the settings name: a sender for each channel, each with its words."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, assert_never

from backorder_notifier.channel import ChannelSender, Outgoing
from backorder_notifier.delivering import Limits, Patience, Provider
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import Channel
from backorder_notifier.mail import MailChannel, unsubscribe_url
from backorder_notifier.rendering import EVERYTHING, OF_A_MAIL, Rendered, Templates, render
from backorder_notifier.settings import Settings, SmsGateway
from backorder_notifier.sms import Gateway, Generic, SmsChannel, Twilio
from backorder_notifier.smtp import MailServer
from backorder_notifier.webhook import WebhookChannel
from backorder_notifier.words import Part

_NO_LONGER_THAN: Final[Mapping[Channel, timedelta]] = {
    "sms": SmsChannel.give_up_after,
    "webhook": WebhookChannel.give_up_after,
}


def build_providers(settings: Settings, templates: Templates) -> Mapping[Channel, Provider]:
    """Of each configured channel. Raises ConfigurationError where a channel lacks a setting."""
    words = partial(words_of, templates, settings.shop_name, settings.public_url)
    patience = Patience(settings.lease, settings.retry_first, settings.retry_longest, settings.give_up_after)
    return {
        channel: Provider(
            _sender(channel, settings, words(OF_A_MAIL if channel == "email" else EVERYTHING)),
            Limits(settings.per_second(channel), settings.send_concurrency),
            replace(patience, give_up_after=min(patience.give_up_after, _NO_LONGER_THAN.get(channel, timedelta.max))),
            settings.policy.quiet_hours.get(channel),
            settings.policy.not_quiet,
        )
        for channel in settings.channels
    }


def words_of(
    templates: Templates, shop_name: str | None, public_url: str | None, parts: Collection[Part] = EVERYTHING
) -> Callable[[Outgoing], Rendered]:
    """How a message is put into words, the same for all channels; `parts`: those that are needed."""

    def words(outgoing: Outgoing) -> Rendered:
        return render(
            outgoing.content,
            outgoing.recipient,
            templates,
            shop_name=shop_name,
            unsubscribe_url=unsubscribe_url(outgoing, public_url),
            as_of=outgoing.composed_at,
            parts=parts,
        )

    return words


def _sender(channel: Channel, settings: Settings, words: Callable[[Outgoing], Rendered]) -> ChannelSender:
    match channel:
        case "email":
            server = MailServer(
                settings.smtp, settings.smtp_timeout, settings.smtp_answer_timeout, settings.send_concurrency
            )
            return MailChannel(server, settings.sender, words, settings.public_url)
        case "sms":
            return SmsChannel(_gateway(settings.sms), words, timeout=settings.smtp_timeout)
        case "webhook":
            target = settings.webhook
            return WebhookChannel(
                target.url,
                target.secrets,
                words,
                allowed_networks=target.allowed_networks,
                timeout=settings.smtp_timeout,
            )
        case _:
            assert_never(channel)


def _gateway(gateway: SmsGateway) -> Gateway:
    match gateway.provider:
        case "twilio":
            if gateway.account is None:
                raise ConfigurationError("NOTIFIER_SMS_ACCOUNT is not set")
            if gateway.url is None:
                return Twilio(gateway.account, gateway.token, gateway.sender)
            return Twilio(gateway.account, gateway.token, gateway.sender, gateway.url)
        case "generic":
            if gateway.url is None:
                raise ConfigurationError("NOTIFIER_SMS_URL is not set")
            return Generic(gateway.url, gateway.token, gateway.sender)
        case _:
            assert_never(gateway.provider)
