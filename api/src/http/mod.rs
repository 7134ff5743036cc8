//! What all routes share: the envelope, who calls, how often, and the layers around the router, and
//! who acts.

mod answer;
mod call;
mod caller;
mod document;
mod figures;
mod layers;
mod limit;
mod observe;
mod seats;

pub(crate) use answer::{Answer, ApiError, Empty, Json, Path, Query, created, ok, refuse};
pub(crate) use call::{Actor, Call, act_as, actor_setting, around, name_actor};
pub(crate) use caller::{
    Bearer, ClientIp, Device, KnownMachine, Machine, Person, SignedIn, User, bearer, cookie_value,
    is_browser, same_origin,
};
pub(crate) use document::complete as complete_document;
pub(crate) use layers::wrap;
pub(crate) use limit::{Counted, prefix};
pub(crate) use observe::{Metrics, routes};
pub(crate) use seats::{Seat, Seats};
