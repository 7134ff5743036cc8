// Generated from the API's OpenAPI document by `npm run generate`. Do not edit.

export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What this server is. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/accept-invitation": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the invitation says, and the form to accept it. */
        get: {
            parameters: {
                query: {
                    token: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says so. */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        /** Signs in, or up, and joins. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/x-www-form-urlencoded": components["schemas"]["JoinForm"];
                };
            };
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says so. */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/accept-invitation": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes the caller a member of the org that invited the caller's address. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AcceptInvitationRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_OrgMembership"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * The CLI's sign-in: `cli_complete` (needs an access token) gives a [`CliCode`], `cli_exchange` a
         *     [`Session`].
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AuthAction"];
                };
            };
            responses: {
                /** @description To `cli_complete`; `cli_exchange` answers with a Session. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_CliCode"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/change-password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Changes the caller's password. Every other session of the account ends. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ChangePasswordRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/delete-account": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Deletes the caller's account, with memberships, machines, keys and sessions, and orgs that have no
         *     other member.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["DeleteAccountRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/identities": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whom providers know the caller by: each can sign the caller in. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_OwnIdentity"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/identities/unlink": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ends one of them, with the password, and the second factor's code if there is one. Every other session
         *     ends too: it may have come by this way. An account without a password gets one by mail first.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UnlinkRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/login": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Begins a session. Browsers get the refresh token as a cookie. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["LoginRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Session"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description The address is not confirmed, or a second factor's code is missing. */
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                423: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/logout": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Ends a session. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RefreshRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The caller's account and orgs. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Me"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/mfa/disable": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Switches the second factor off. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MfaDisableRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/mfa/setup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Begins a second factor: a secret for the caller's authenticator. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MfaSetupRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_TotpSetup"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/mfa/verify": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Switches the second factor on, with the authenticator's first code. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MfaVerifyRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_BackupCodes"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/refresh": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Turns a refresh token into the next session. A token that comes twice ends its family. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RefreshRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Session"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/reset-password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sends a mail to choose a new password. The answer is the same if the address has no account. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ResetPasswordRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description No mail is sent here. */
                503: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/reset-password/confirm": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sets a new password by the token of that mail. Every session of the account ends. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ConfirmResetRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The caller's sessions. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_SessionInfo"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Ends all of the caller's sessions but this one. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/sessions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Ends one of the caller's sessions. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["SessionId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/signup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes an account. The answer is the same if the address has one. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["SignupRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description The invitation is not good any more. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Accounts are by invitation here. */
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/sso": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether there is an org with a sign-in of its own behind it. Of an address the domain alone counts: the answer is the
         *     same whether it has an account or not.
         */
        get: {
            parameters: {
                query: {
                    /** @description An e-mail address, its domain, or an org's label. */
                    hint: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_SsoDiscovery"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/verify-email": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Confirms an account's address by the token that was sent there, and the password. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["VerifyEmailRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/ways": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How people sign in here. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_SignInWays"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/client-version": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The release that a machine is to have, and where to download it. */
        get: {
            parameters: {
                query: {
                    /** @description The machine that asks: a new release comes to some machines first. Without one, the release that all machines get. */
                    machine?: components["schemas"]["MachineId"];
                    /** @description System and architecture, as in `linux-x86_64`. */
                    target: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_ClientVersion"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/derp-health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether the relays work, as the control plane sees them: the deployment's for everybody, an org's
         *     own for its members and machines.
         */
        get: {
            parameters: {
                query?: {
                    /**
                     * @description Show this org's own regions too. Bearer: a member's access token. A machine's token shows
                     *     those of its own org without being asked.
                     */
                    org?: components["schemas"]["OrgId"];
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_RelayHealth"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/invitations/preview": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** What an invitation is about. Needs its token and nothing else, and changes nothing. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AcceptInvitationRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_InvitationPreview"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/join": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What a machine has to know of this deployment to join it. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_JoinInfo"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/kem-keys/{hash}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The ML-KEM key of a peer. Bearer: machine token. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    hash: components["schemas"]["KemKeyHash"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_KemKeyAnswer"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/machine-connections": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** A machine tells of its tunnels. Bearer: machine token. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ReportConnections"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/machine-heartbeat": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A machine is alive. Bearer: machine token. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["HeartbeatRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_HeartbeatAnswer"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/machine-routes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * What the machine offers to route, whole. Bearer: machine token. What the policy's `autoApprovers`
         *     name is approved at once, when it is offered first.
         */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AdvertiseRoutesRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_MachineRoutes"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/machine-static-peers/{machine}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Takes a static peer up: the gateway brings keys for its end of the mesh, and is given a token to speak
         *     for it, and what its device is known by. Bearer: the gateway's machine token.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AttachRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Attached"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/machine-stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The machine stream (WebSocket). Bearer: machine token. The messages are `ServerMessage` and
         *     `ClientMessage` of the contract crate, one JSON object per text frame.
         */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description The stream begins; the machine says hello. */
                101: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/machine-wiped": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A machine has erased its keys and its state, as it was told. Bearer: machine token, which ends. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes an org; the caller owns it. Its first rule lets members reach all its machines. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateOrgRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_OrgMembership"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/acl-evaluate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Whether the policy lets one machine open something towards another: condition by condition, and
         *     if nothing allows it, which rule comes closest.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["EvaluateRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Evaluation"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/api-keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's API keys, the newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_ApiKeyInfo"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /** Makes an API key that acts for the caller. It is shown this once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateApiKeyRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_CreatedApiKey"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/api-keys/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Revokes an API key: it works no more. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["ApiKeyId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The org's audit log, the newest first. A page may be short, or empty, and have a `next`: a call looks at
         *     100,000 rows.
         */
        get: {
            parameters: {
                query?: {
                    /** @description An action (`machine.update`), or all of a kind (`machine`). */
                    action?: string;
                    /** @description Id of a person, key or machine that did it; of a person, also what their API keys did. */
                    actor?: string;
                    /** @description `next` of the page before. */
                    cursor?: number;
                    /** @description Most rows of the page: 1 to 500, else 100. */
                    limit?: number;
                    /** @description From this time on. */
                    since?: string;
                    /** @description Id of what it was done to. */
                    target?: string;
                    /** @description Somewhere in actor, target, address, client, before or after, in any case. */
                    text?: string;
                    /** @description Before this time. */
                    until?: string;
                };
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_AuditPage"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/audit/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The org's audit log as a file, the oldest row first, as far as it reaches now. That it was exported, the
         *     log says too.
         */
        get: {
            parameters: {
                query?: {
                    /** @description An action (`machine.update`), or all of a kind (`machine`). */
                    action?: string;
                    /** @description Id of a person, key or machine that did it; of a person, also what their API keys did. */
                    actor?: string;
                    /** @description `csv`, unless asked for `json`. */
                    format?: "csv" | "json";
                    /** @description From this time on. */
                    since?: string;
                    /** @description Id of what it was done to. */
                    target?: string;
                    /** @description Somewhere in actor, target, address, client, before or after, in any case. */
                    text?: string;
                    /** @description Before this time. */
                    until?: string;
                };
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description The rows. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["AuditEntry"][];
                        "text/csv": string;
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/audit/settings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How long the org keeps its audit log. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_AuditSettings"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        /** Sets how long the org keeps its audit log. For owners. What is older goes within the hour. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AuditSettings"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_AuditSettings"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/audit/verify": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Makes the hashes of the audit log again, 10,000 rows a call, and tells the first row that is not what
         *     was written.
         */
        get: {
            parameters: {
                query?: {
                    /** @description `next` of the answer before. */
                    from?: number;
                };
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_AuditVerification"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/auth-keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's keys, the newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_AuthKeyInfo"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /** Makes a key. It is shown this once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateAuthKeyRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_CreatedAuthKey"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/auth-keys/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Revokes a key: it enrols no more machines. Those that it has enrolled stay, unless they are to be
         *     quarantined; a key that was revoked before can be revoked again for that.
         */
        delete: {
            parameters: {
                query?: {
                    /** @description Whether the machines that it has enrolled are quarantined. */
                    quarantine?: boolean;
                };
                header?: never;
                path: {
                    id: components["schemas"]["AuthKeyId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/connections": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The tunnels that the org's machines have told of within the last 15 minutes, those of the first 1,000 machines by name. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_OrgConnections"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/dns": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The names that the org has beside its machines', and who answers for others. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_DnsSettings"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        /** Replaces them. Every machine is told. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["DnsSettings"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_DnsSettings"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/gateways": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The machines that carry static peers. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_Gateway"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/invitations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's open invitations. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_InvitationInfo"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /**
         * Invites an address. The invitation goes there by mail; where no mail is sent, the answer holds its
         *     token. Whether the address has an account, nobody learns.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["InviteRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Invited"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/invitations/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Withdraws an invitation. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: components["schemas"]["InvitationId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machine-facets": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * How many machines the org has, with which systems and tags, and how many wait for approval. Members' answers are about
         *     their own.
         */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_MachineFacets"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machines": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's machines, all of them or those that are asked for. Members see their own. */
        get: {
            parameters: {
                query?: {
                    /** @description The other way round. */
                    descending?: boolean;
                    /** @description Most machines of the page, 1 to 1,000; else all that there are. */
                    limit?: number;
                    /** @description Machines to leave out before the page begins. */
                    offset?: number;
                    /**
                     * @description Only machines with one of these systems, without the architecture, with commas between them.
                     * @example linux,windows
                     */
                    os?: string;
                    /**
                     * @description Only machines that stand so with the org's posture policies, with commas between them.
                     * @example failing,stale
                     */
                    posture?: string;
                    /** @description Words, each of which stands somewhere in a machine's name, addresses, user, tags, system or version, in any case. */
                    search?: string;
                    /** @description By what they are sorted; else by name. */
                    sort?: "name" | "address" | "user" | "os" | "version" | "state" | "last_seen" | "created_at" | "key_expires_at" | "tags" | "path" | "post_quantum" | "posture";
                    /**
                     * @description Only machines in one of these states, with commas between them.
                     * @example pending,quarantined
                     */
                    state?: string;
                    /**
                     * @description Only machines with one of these tags, with commas between them.
                     * @example tag:web,tag:db
                     */
                    tag?: string;
                };
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        /** @description How many there are on all pages. */
                        "x-total-count"?: number;
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_Machine"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machines/{machine}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One machine. Members see their own. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Machine"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /**
         * Deletes a machine: its stream ends, its peers forget it, its addresses are free. Members delete their
         *     own, but none that is quarantined, locked, disabled or being wiped.
         */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Renames a machine, gives it tags, or sets when and whether it must sign in again. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateMachineRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Machine"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/api/orgs/{org}/machines/{machine}/actions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Approves or denies a machine, quarantines and releases it, locks and unlocks, disables and enables,
         *     or wipes it.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["MachineAction"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Machine"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machines/{machine}/connections": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A machine's tunnels, as it has told of them within the last 15 minutes. Members see those of their own machines. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_MachineConnections"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machines/{machine}/gateway": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Has a machine carry static peers: its agent listens for devices with plain WireGuard. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["GatewayRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Gateway"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        /** Has a machine carry static peers no more. Those that it carried are offline until they have another. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machines/{machine}/reach": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whom a machine may open something towards, and who towards it, each with the rules that allow it. A machine that is
         *     not in the network reaches nobody.
         */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Reach"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/machines/{machine}/routes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Says which of the networks that a machine offers it may route. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ApproveRoutesRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_MachineRoutes"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/members": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's members. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_Member"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/members/{user}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Removes a member, or oneself. The member's machines and API keys go too. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    user: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a member's role. What concerns owners, owners do; the last one stays. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    user: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateMemberRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Member"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/api/orgs/{org}/members/{user}/second-factor": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Takes a member's second factor off, and ends their sessions. The next sign-in is by the password, or the
         *     provider, alone. Owners do this, for members who are in no other org, or of a domain that is proved to be
         *     the org's; the member is told by mail.
         */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    user: components["schemas"]["UserId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The policy in force. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyDocument"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        /**
         * Puts another document in force, if it can be read and its own tests pass. Machines are told at
         *     once.
         */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PutPolicyRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyDocument"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/dry-run": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * What would happen if the document were put in force: what is wrong with it, which of its tests
         *     fail, whom it would connect and cut off. Changes nothing.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["DryRunRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_DryRun"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/groups": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The groups that the policy in force declares, and who is in them: by the document, or by the identity provider. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_PolicyGroup"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/rules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The rules of the policy in force. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_PolicyRule"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /** Adds a rule. Machines are told at once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AddRuleRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyDocument"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/rules/{rule}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Makes a rule say something else. Machines are told at once. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    rule: components["schemas"]["RuleId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PutRuleRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyDocument"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        /** Removes a rule. Machines are told at once. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    rule: components["schemas"]["RuleId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyDocument"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The versions that there are, the one in force first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_PolicyVersion"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/versions/{version}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A version, and what it changed. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    version: number;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyVersionText"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/policy/versions/{version}/rollback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Puts an older version's document in force again, as a new version. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    version: number;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RollbackRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PolicyDocument"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/posture/machines": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What machines reported, what each policy says of them, and what to do about it. Members see their
         *     own.
         */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_MachinePosture"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/posture/machines/{machine}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The same of one machine. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_MachinePosture"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/posture/policies": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's posture policies. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_PosturePolicy"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /** Adds a posture policy. Machines that it is for are judged at once, by what they reported last. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PosturePolicySpec"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PosturePolicy"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/posture/policies/{policy}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One posture policy. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    policy: components["schemas"]["PosturePolicyId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PosturePolicy"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        /** Makes a posture policy say something else. Machines are judged at once; graces that run go on. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    policy: components["schemas"]["PosturePolicyId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PosturePolicySpec"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_PosturePolicy"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        /** Deletes a posture policy. What followed from it ends at once. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    policy: components["schemas"]["PosturePolicyId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/relays": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The regions that the org's machines may use: the deployment's, and its own. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_OrgRelays"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/relays/{region}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Makes or replaces one of the org's own regions (900 to 999). Machines are told at once. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    region: components["schemas"]["RegionId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RegionDocument"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_RegionDocument"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        /** Deletes one of the org's own regions. Machines are told at once. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                    region: components["schemas"]["RegionId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/routes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The networks behind the org's machines. Of machines that offer none: nothing. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_MachineRoutes"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/settings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's settings. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_OrgSettings"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Changes the org's settings. Machines are told at once of a new name and of a lockdown. What is as it was asked for
         *     already is no change.
         */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["UpdateOrgSettings"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_OrgSettings"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/api/orgs/{org}/sso": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's identity provider. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_SsoSettings"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        /**
         * Sets the org's identity provider up, or changes it. It is asked for its discovery document at once. With
         *     another issuer, people are linked anew.
         */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PutSsoRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_SsoSettings"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        post?: never;
        /**
         * Ends sign-in by the org's provider. Accounts and memberships stay; who has no password yet chooses one
         *     by "forgotten password".
         */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/sso/domains": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's domains. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_SsoDomain"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /** Adds a domain. It counts once its TXT record was found. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AddDomainRequest"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_SsoDomain"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/sso/domains/{domain}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Gives a domain up. Accounts that were made stay. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    domain: string;
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Empty"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/sso/domains/{domain}/prove": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Looks a domain's TXT record up. A domain that another org has proved passes to this one if that org's
         *     record stands there no longer.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    domain: string;
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_SsoDomain"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/static-peers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The org's static peers. Members see their own. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Vec_StaticPeer"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        /**
         * Lets a device without an agent join through a gateway. The answer shows, this once, what it is configured
         *     with.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CreateStaticPeer"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_StaticPeerConfig"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org}/static-peers/{machine}/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * New keys for a static peer, and another gateway if one is named. What its device was configured with
         *     before is of no use from then on. It may be another device: where new machines wait for approval, one that
         *     a member gives new keys waits again. Its sign-in is renewed, unless an API key asks, which signs nobody in.
         */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    machine: components["schemas"]["MachineId"];
                    org: components["schemas"]["OrgId"];
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RotateStaticPeer"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_StaticPeerConfig"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/realtime": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What happens in an org, as it happens (WebSocket). The access token comes as the subprotocol
         *     `access_token.<token>` beside `ztna.realtime`, or as the bearer; API keys do not open it. Messages are
         *     `RealtimeRequest` and `RealtimeMessage`, one JSON object per text frame. The server pings every 30 s, and
         *     closes with 1001 (stops: come back), 1013 (come back in a moment), 4000 (silent for 90 s), 4001 (the token has
         *     ended: come back with a fresh one), 4002 (a message that it does not take), 4003 (not allowed any more) or 4029
         *     (200 connections to the org, or at this node 25 of the person, are open: ask by the ordinary calls).
         */
        get: {
            parameters: {
                query: {
                    /** @description The org to listen to. */
                    org: components["schemas"]["OrgId"];
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description The connection begins; the client subscribes. */
                101: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/register-machine": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Enrols a machine. Bearer: an auth key, or a user's access token. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["RegisterRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Envelope_Registered"];
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/relays/revocations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whose relay tickets are void: a list signed with the ticket key, by hashes of WireGuard keys. It
         *     comes at once if there is news after `after`, else when there is, else empty after `wait`, or
         *     sooner if too many wait already: ask at most once a second.
         */
        get: {
            parameters: {
                query?: {
                    /** @description `seq` of the list before; 0 for everything. */
                    after?: number;
                    /** @description Seconds to wait for news, at most 25. */
                    wait?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description base64url(JSON) "." base64url(signature) */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/plain": string;
                    };
                };
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/releases/{version}/{file}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A file of a release. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    file: string;
                    version: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description The file. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/octet-stream": number[];
                    };
                };
                /** @description It is the one of `If-None-Match`: an entity tag is the file's SHA-256. */
                304: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                503: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
                /** @description Refused; `error.code` says why, `error.message` what to do. */
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/cli-login": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The page that `ztna login` opens: sign in, then connect the computer. */
        get: {
            parameters: {
                query: {
                    challenge: string;
                    port: number;
                    state: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        /** A form of that page. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/x-www-form-urlencoded": components["schemas"]["Submission"];
                };
            };
            responses: {
                /** @description On to the next step, in the end back to the CLI. */
                303: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says that accounts are by invitation here. */
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether the control plane can serve. `status` is `ok`, or `degraded: …` if it serves with less. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description It can. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Health"];
                    };
                };
                /** @description It cannot; `status` says why. */
                503: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Health"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/install.ps1": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The script that installs the agent on Windows. It knows the key that releases are signed by. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description The script. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/plain": string;
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/install.sh": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The script that installs the agent on Linux and macOS. It knows the key that releases are signed by. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description The script. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/plain": string;
                    };
                };
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Refusal"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Figures for Prometheus. Only for addresses that are not on the public internet. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Prometheus text format. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/plain": string;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/reset-password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Asks for the address of a forgotten password, or with the mail's token for the new password. */
        get: {
            parameters: {
                query?: {
                    token?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        /** Sends the mail, or sets the password. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/x-www-form-urlencoded": components["schemas"]["ResetForm"];
                };
            };
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/sign-in/{provider}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** To Google or GitHub. */
        get: {
            parameters: {
                query?: {
                    challenge?: string;
                    port?: number;
                    /** @description The path of a page here, of a dashboard's, in place of what the command line sends. */
                    return_to?: string;
                    state?: string;
                };
                header?: never;
                path: {
                    provider: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description On to the provider. */
                303: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The provider cannot be used. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description There is no such provider. */
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Too many. */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/sign-in/{provider}/callback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Where a provider sends the browser back to. An org's has the org's id as its name. */
        get: {
            parameters: {
                query?: {
                    /** @description To be redeemed at the provider. */
                    code?: string;
                    /** @description Why there is no code. */
                    error?: string;
                    /** @description The same for people. */
                    error_description?: string;
                    /** @description Who sends it (RFC 9207). */
                    iss?: string;
                    /** @description Tells the sign-in. */
                    state?: string;
                };
                header?: never;
                path: {
                    provider: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page that leads on. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The person may not come in. */
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description There is no such provider. */
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Somebody else was faster. */
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Too many. */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/sign-in/proof": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Ends a sign-in that needs no more than the provider's word. Not at the callback: a browser that comes from
         *     another site does not send the session that it holds, and another account's is not replaced unasked.
         */
        get: {
            parameters: {
                query?: {
                    /** @description Tells the sign-in. */
                    waiting?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Asks whether another account's session is to be replaced. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description On to the next step. */
                303: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The address is malformed. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description There is nothing to go on with. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The account has a second factor since. */
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        /** Takes the password of the account that is to be linked, or the second factor's code. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/x-www-form-urlencoded": components["schemas"]["Proof"];
                };
            };
            responses: {
                /** @description On to the next step. */
                303: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Password or code are wrong, or there is nothing to prove. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The code is missing, or another site's page calls. */
                403: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Somebody else was faster. */
                409: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The account is locked. */
                423: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Too many. */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/sign-in/sso": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** To the provider of an org; asks which org if none is named. */
        get: {
            parameters: {
                query?: {
                    challenge?: string;
                    /** @description An org's label, or an address of one of its domains. */
                    org?: string;
                    port?: number;
                    /** @description The path of a page here, of a dashboard's, in place of what the command line sends. */
                    return_to?: string;
                    state?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page that leads on. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description The provider cannot be used. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description There is no such org. */
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description Too many. */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/verify-email": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Asks whether to confirm the address. */
        get: {
            parameters: {
                query: {
                    token: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                400: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        put?: never;
        /** Confirms the address. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/x-www-form-urlencoded": components["schemas"]["VerifyForm"];
                };
            };
            responses: {
                /** @description A page. */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A page that says what is wrong. */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description `POST /api/accept-invitation`, as a person with the invited address. Answer: [`OrgMembership`]. */
        AcceptInvitationRequest: {
            /** @description The invitation's token. */
            token: components["schemas"]["InvitationToken"];
        };
        /**
         * @description What a rule does.
         * @enum {string}
         */
        Action: "allow" | "deny";
        /** @description `POST /api/orgs/{org}/sso/domains`. Answer: [`SsoDomain`]. */
        AddDomainRequest: {
            /** @description What addresses have after the `@`. */
            domain: string;
        };
        /** @description `POST /api/orgs/{org}/policy/rules` */
        AddRuleRequest: {
            /** @description The rule. */
            rule: Record<string, unknown>;
            /** @description Where it goes: to the end of this list. */
            section: components["schemas"]["Section"];
        };
        /** @description `PUT /api/machine-routes`. Answer: [`MachineRoutes`]. */
        AdvertiseRoutesRequest: {
            /**
             * @description All networks that the machine offers to route, at most [`MAX_ROUTES`]. An exit node offers
             *     [`EXIT_ROUTES`]. What it offered before and does not any more is forgotten, approval included.
             */
            routes: string[];
        };
        /** @description An API key: a program's bearer, acts for a person within one org. `ztna-api-` + 43 characters. */
        ApiKey: string;
        /**
         * Format: uuid
         * @description An API key.
         */
        ApiKeyId: string;
        /** @description An entry of `GET /api/orgs/{org}/api-keys`. `DELETE …/api-keys/{id}` revokes it. */
        ApiKeyInfo: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /** @description For whom it acts. */
            created_by: components["schemas"]["UserId"];
            /** @description For people. */
            description: string;
            /**
             * Format: date-time
             * @description When it ends.
             */
            expires_at: string;
            /** @description The key's id. */
            id: components["schemas"]["ApiKeyId"];
            /**
             * Format: date-time
             * @description When it was used last, to a minute.
             */
            last_used_at?: string | null;
            /**
             * Format: date-time
             * @description When it was revoked.
             */
            revoked_at?: string | null;
            /** @description What it may be used for. */
            scopes: string[];
        };
        /** @description `PUT /api/orgs/{org}/machines/{machine}/routes`. Answer: [`MachineRoutes`]. */
        ApproveRoutesRequest: {
            /** @description The networks that the machine may route, out of those that it offers. The others it may not. */
            approved: string[];
        };
        /** @description A static peer that was taken up. */
        Attached: {
            /** @description The machine that the gateway speaks for from now on. The token of a taking up before is void. */
            machine: components["schemas"]["Registered"];
            preshared_key?: components["schemas"]["PresharedKey"] | null;
            /** @description The device's WireGuard key. */
            public_key: components["schemas"]["WgPublicKey"];
        };
        /** @description `POST /api/machine-static-peers/{machine}`, by its gateway: takes a static peer up. Answer: [`Attached`]. */
        AttachRequest: {
            /** @description The agent's version. */
            agent_version: string;
            /** @description Likewise. */
            kem_key: components["schemas"]["KemPublicKey"];
            /** @description The key of the peer's end of the mesh, which the gateway has made. */
            wg_key: components["schemas"]["WgPublicKey"];
        };
        /** @description Who did something. */
        AuditActor: {
            /**
             * Format: uuid
             * @description The person, key or machine.
             */
            id?: string | null;
            /** @description The kind. */
            kind: components["schemas"]["AuditActorKind"];
            /** @description Address, description or name at the time. */
            name?: string | null;
            on_behalf_of?: components["schemas"]["UserId"] | null;
        };
        /**
         * @description What kind of actor did something.
         * @enum {string}
         */
        AuditActorKind: "user" | "api_key" | "auth_key" | "machine" | "system" | "anonymous" | "unknown";
        /** @description A row of the log. Its number, `seq`, has no gaps; its hash covers the row before. */
        AuditEntry: {
            /** @description What, as in `machine.update`, `policy.save`, `session.sign_in`. */
            action: string;
            /** @description Who. */
            actor: components["schemas"]["AuditActor"];
            /** @description What it was changed into, what was made, or what there is to say. */
            after?: Record<string, unknown> | null;
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description What was changed or deleted: columns and values. Secrets are `[secret]`, what is longer than 2 KiB is its SHA-256. */
            before?: Record<string, unknown> | null;
            /** @description What the client called itself (`User-Agent`). */
            client?: string | null;
            /** @description SHA-256 of the row and of the hash before it, in hex. */
            hash: string;
            /** @description From where. Nothing if the system did it. */
            ip?: string | null;
            /** @description The call's `X-Request-Id`. */
            request_id?: string | null;
            /** @description By which call, as in `PATCH /api/orgs/{org}/machines/{machine}`. */
            route?: string | null;
            /**
             * Format: int64
             * @description Number of the row.
             */
            seq: number;
            /** @description To what. */
            target: components["schemas"]["AuditTarget"];
        };
        /** @description A row that is not as it was written. */
        AuditFault: {
            /** @description What is wrong with it. */
            message: string;
            /**
             * Format: int64
             * @description The row.
             */
            seq: number;
        };
        /** @description A row and its hash. */
        AuditMark: {
            /** @description Its hash, in hex. */
            hash: string;
            /**
             * Format: int64
             * @description The row.
             */
            seq: number;
        };
        /** @description `GET /api/orgs/{org}/audit`: the newest first. */
        AuditPage: {
            /** @description The rows that the filters let through. */
            entries: components["schemas"]["AuditEntry"][];
            /**
             * Format: int64
             * @description What to send as `cursor` for the next page. Nothing: that was all.
             */
            next?: number | null;
        };
        /** @description `GET` and `PUT /api/orgs/{org}/audit/settings`. */
        AuditSettings: {
            /**
             * Format: int32
             * @description Days that rows are kept: 30 to 3,650.
             */
            retention_days: number;
        };
        /** @description What something was done to. */
        AuditTarget: {
            /** @description An id; of a policy its version, of a relay node region and name. */
            id?: string | null;
            /** @description Name, address or description at the time. */
            name?: string | null;
        };
        /**
         * @description `GET /api/orgs/{org}/audit/verify`: whether the log is what was written.
         *
         *     Whoever can write to the database as its superuser can make a whole new chain. Against that, keep `head`
         *     elsewhere from time to time: the row of that number must have that hash for ever.
         */
        AuditVerification: {
            /**
             * Format: int64
             * @description The oldest row that is kept.
             */
            begins: number;
            broken?: components["schemas"]["AuditFault"] | null;
            /**
             * Format: int64
             * @description How many rows were looked at.
             */
            checked: number;
            /** @description Where the chain ends. */
            head: components["schemas"]["AuditMark"];
            /** @description Whether all rows that were looked at are good. */
            intact: boolean;
            /**
             * Format: int64
             * @description What to send as `from` to go on. Nothing: that was all.
             */
            next?: number | null;
        };
        /** @description `POST /api/auth`: calls with an `action`. */
        AuthAction: {
            /** @enum {string} */
            action: "cli_complete";
            /** @description base64url(SHA-256(verifier)), as in PKCE (RFC 7636 §4.2, S256). */
            challenge: string;
        } | {
            /** @enum {string} */
            action: "cli_exchange";
            /** @description The one-time code. */
            code: string;
            /** @description The verifier that the challenge was made of. */
            verifier: string;
        };
        /** @description An auth key: enrols machines without a person at hand. `ztna-auth-` + 43 characters. */
        AuthKey: string;
        /**
         * Format: uuid
         * @description An auth key that enrols machines.
         */
        AuthKeyId: string;
        /**
         * @description An entry of `GET /api/orgs/{org}/auth-keys`. `DELETE …/auth-keys/{id}` revokes it; with
         *     `?quarantine=true` the machines that it has enrolled are quarantined too.
         */
        AuthKeyInfo: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /** @description E-mail of the member who made it. `None`: no member any more. */
            created_by?: string | null;
            /** @description For people. */
            description: string;
            /** @description Whether its machines are deleted once they have been silent for a while. */
            ephemeral: boolean;
            /**
             * Format: date-time
             * @description When it ends.
             */
            expires_at: string;
            /** @description The key's id. */
            id: components["schemas"]["AuthKeyId"];
            /**
             * Format: int64
             * @description How many it admits. `None`: made before there was a bound.
             */
            max_uses?: number | null;
            /** @description Whether its machines need no approval. */
            preapproved: boolean;
            /** @description Whether it enrols more than one machine. */
            reusable: boolean;
            /**
             * Format: date-time
             * @description When it was revoked.
             */
            revoked_at?: string | null;
            /** @description Tags of its machines. */
            tags: string[];
            /**
             * Format: int64
             * @description Registrations made with it.
             */
            uses: number;
        };
        /** @description Ten codes that each stand in for the authenticator once, shown this once. */
        BackupCodes: {
            /** @description As in `1a2b3-c4d5e`. */
            backup_codes: string[];
        };
        /** @description How a TLS server proves itself to us. */
        CertificatePin: "web_pki" | {
            /** @description By a certificate whose DER has this SHA-256, 64 hex digits. */
            sha256: string;
        };
        /** @description `POST /api/auth/change-password`: ends every other session of the account. */
        ChangePasswordRequest: {
            /** @description The password of now. */
            current_password: string;
            /** @description The new one. */
            password: string;
        };
        /**
         * @description What one may hear of.
         * @enum {string}
         */
        Channel: "machines" | "presence" | "members" | "audit" | "keys" | "posture" | "dns" | "acl" | "routes" | "relays";
        /**
         * @description What a check looks at.
         * @enum {string}
         */
        CheckKind: "report" | "os_version" | "agent_version" | "disk_encryption" | "firewall" | "screen_lock" | "auto_update";
        /** @description A one-time code for the CLI, good for 2 minutes. */
        CliCode: {
            /** @description The code. */
            code: string;
        };
        /** @description `GET /api/client-version?target=linux-x86_64`: the release for a machine. */
        ClientVersion: {
            /** @description The path to download it from, on this server. */
            path: string;
            /** @description Its SHA-256, in hexadecimal digits. */
            sha256: string;
            /** @description The signature of its [`release_statement`], in base64: ECDSA, P-256, SHA-256, DER. */
            signature: string;
            /**
             * Format: int64
             * @description Its size, in bytes.
             */
            size: number;
            /** @description What it is built for, as in `linux-x86_64`. */
            target: string;
            /** @description Its version. */
            version: string;
        };
        /** @description One thing that a rule asks for. */
        Condition: {
            /** @description What is asked for, and what was found. */
            detail: string;
            /**
             * @description The field of the rule: `src`, `dst`, `proto`, `port`, `srcOS`, `srcCountry`, `srcPosture`,
             *     `when`, `expires`.
             */
            field: string;
            /** @description Whether it is met. */
            holds: boolean;
        };
        /** @description `POST /api/auth/reset-password/confirm`: sets the password, and ends every session of the account. */
        ConfirmResetRequest: {
            /** @description The new password. */
            password: string;
            /** @description The token of the mail. */
            token: components["schemas"]["MailToken"];
        };
        /** @description A tunnel to a peer. */
        Connection: {
            /**
             * Format: int64
             * @description Its epoch, from 1. 0: none yet.
             */
            epoch: number;
            /**
             * Format: int64
             * @description Seconds since it was installed, at the time of the report.
             */
            epoch_age_seconds?: number | null;
            /**
             * Format: int64
             * @description Seconds since the last WireGuard handshake, at the time of the report.
             */
            handshake_age_seconds?: number | null;
            /**
             * Format: int32
             * @description Round trip, in milliseconds, as last measured.
             */
            latency_ms?: number | null;
            /** @description How packets go. */
            path: components["schemas"]["ConnectionPath"];
            /** @description The peer. */
            peer: components["schemas"]["MachineId"];
            /** @description Whether the preshared key is one of the hybrid handshake. */
            post_quantum: boolean;
            region?: components["schemas"]["RegionId"] | null;
            /**
             * @description Why packets go that way and no other, as the machine has found: a sentence of at most [`MAX_WHY`] characters. Empty: it
             *     does not say.
             */
            why?: string;
        };
        /**
         * @description How packets reach a peer.
         * @enum {string}
         */
        ConnectionPath: "direct" | "relay" | "none";
        /** @description `POST /api/orgs/{org}/api-keys`. Answer: [`CreatedApiKey`]. */
        CreateApiKeyRequest: {
            /** @description For people, at most [`MAX_DESCRIPTION`] characters. */
            description?: string;
            /**
             * Format: int32
             * @description Lifetime, 1 to [`MAX_API_KEY_DAYS`].
             */
            expires_in_days: number;
            /**
             * @description `read`, `write` (which includes reading), or one of them for an area of the API, as in
             *     `machines:read`. Areas: `auth-keys`, `machines`, `members`, `policy`, `posture`,
             *     `relays`, `settings`.
             */
            scopes: string[];
        };
        /** @description `POST /api/orgs/{org}/auth-keys`. Answer: [`CreatedAuthKey`]. */
        CreateAuthKeyRequest: {
            /** @description For people, at most [`MAX_DESCRIPTION`] characters. */
            description?: string;
            /** @description Its machines are deleted once they have been silent for a while. */
            ephemeral?: boolean;
            /**
             * Format: int64
             * @description Lifetime, [`MIN_AUTH_KEY_SECONDS`] to [`MAX_AUTH_KEY_SECONDS`]; else
             *     [`DEFAULT_AUTH_KEY_SECONDS`].
             */
            expires_in?: number | null;
            /**
             * Format: int64
             * @description Registrations that a reusable key admits, 1 to [`MAX_AUTH_KEY_USES`]; else
             *     [`DEFAULT_AUTH_KEY_USES`].
             */
            max_uses?: number | null;
            /** @description Its machines need no approval. */
            preapproved?: boolean;
            /** @description Enrols machines until it expires or has been used `max_uses` times; else exactly one. */
            reusable?: boolean;
            /**
             * @description Tags of the machines that it enrols, as in `tag:web`: names of the policy's `tagOwners`. Such
             *     machines belong to no user, and their sign-in does not end.
             */
            tags?: string[];
        };
        /** @description A new API key, shown this once. */
        CreatedApiKey: {
            /** @description What is kept of it. */
            info: components["schemas"]["ApiKeyInfo"];
            /** @description The key itself. */
            key: components["schemas"]["ApiKey"];
        };
        /** @description A new auth key, shown this once. */
        CreatedAuthKey: {
            /** @description What is kept of it. */
            info: components["schemas"]["AuthKeyInfo"];
            /** @description The key itself. */
            key: components["schemas"]["AuthKey"];
        };
        /** @description `POST /api/orgs`. Answer: [`OrgMembership`]. */
        CreateOrgRequest: {
            /** @description 1 to [`MAX_ORG_NAME`] characters. */
            name: string;
        };
        /** @description `POST /api/orgs/{org}/static-peers`. Answer: [`StaticPeerConfig`]. */
        CreateStaticPeer: {
            /** @description The gateway that carries it. */
            gateway: components["schemas"]["MachineId"];
            /** @description Its name in the org. */
            name: string;
            /** @description Whether to have a preshared key too. */
            preshared_key?: boolean;
            public_key?: components["schemas"]["WgPublicKey"] | null;
            /** @description Its tags, as in `tag:phones`. One with tags is nobody's. */
            tags?: string[];
            user?: components["schemas"]["UserId"] | null;
        };
        /** @description `POST /api/auth/delete-account`: for good, with everything that is the person's. */
        DeleteAccountRequest: {
            /** @description The account's password. */
            password: string;
            /** @description Code of the authenticator, or a backup code, for an account with a second factor. */
            totp_code?: string | null;
        };
        /** @description Discovery public key: X25519, new at each start of the agent. Printed as `disco:` + 64 hex. */
        DiscoPublicKey: string;
        /** @description A name with an address. Several with one name are all answered. */
        DnsRecord: {
            /** @description The address: an A record or an AAAA record. */
            address: string;
            /** @description The full name, without a dot at its end. */
            name: string;
        };
        /** @description An org's names, `GET` and `PUT /api/orgs/{org}/dns`. */
        DnsSettings: {
            /**
             * @description Who answers for names that nothing else here speaks of. None: whoever did before on each
             *     machine.
             * @default []
             */
            nameservers?: string[];
            /**
             * @description Names beside those of machines.
             * @default []
             */
            records?: components["schemas"]["DnsRecord"][];
            /**
             * @description Domains to look in for short names, after the org's own.
             * @default []
             */
            search?: string[];
            /**
             * @description Domains, and who answers for them and all names below.
             * @default {}
             */
            split?: {
                [key: string]: string[];
            };
        };
        /** @description What would happen if a document were saved. */
        DryRun: {
            /** @description Why it would be refused: what is wrong with it, or the tests that it does not pass. */
            faults: components["schemas"]["Fault"][];
            impact?: components["schemas"]["Impact"] | null;
        };
        /** @description `POST /api/orgs/{org}/policy/dry-run` */
        DryRunRequest: {
            /** @description The document. */
            text: string;
        };
        /** @description An answer that says nothing but "done". */
        Empty: Record<string, unknown>;
        /** @description Where a machine may be reached. */
        Endpoint: {
            /** @description UDP address and port. */
            addr: string;
            /** @description How the machine came to know it. */
            kind: components["schemas"]["EndpointKind"];
        };
        /**
         * @description How a machine came to know an endpoint of its own.
         * @enum {string}
         */
        EndpointKind: "local" | "tunnel" | "stun" | "port_mapped" | "other";
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Attached: {
            /** @description A static peer that was taken up. */
            data?: {
                /** @description The machine that the gateway speaks for from now on. The token of a taking up before is void. */
                machine: components["schemas"]["Registered"];
                preshared_key?: components["schemas"]["PresharedKey"] | null;
                /** @description The device's WireGuard key. */
                public_key: components["schemas"]["WgPublicKey"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_AuditPage: {
            /** @description `GET /api/orgs/{org}/audit`: the newest first. */
            data?: {
                /** @description The rows that the filters let through. */
                entries: components["schemas"]["AuditEntry"][];
                /**
                 * Format: int64
                 * @description What to send as `cursor` for the next page. Nothing: that was all.
                 */
                next?: number | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_AuditSettings: {
            /** @description `GET` and `PUT /api/orgs/{org}/audit/settings`. */
            data?: {
                /**
                 * Format: int32
                 * @description Days that rows are kept: 30 to 3,650.
                 */
                retention_days: number;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_AuditVerification: {
            /**
             * @description `GET /api/orgs/{org}/audit/verify`: whether the log is what was written.
             *
             *     Whoever can write to the database as its superuser can make a whole new chain. Against that, keep `head`
             *     elsewhere from time to time: the row of that number must have that hash for ever.
             */
            data?: {
                /**
                 * Format: int64
                 * @description The oldest row that is kept.
                 */
                begins: number;
                broken?: components["schemas"]["AuditFault"] | null;
                /**
                 * Format: int64
                 * @description How many rows were looked at.
                 */
                checked: number;
                /** @description Where the chain ends. */
                head: components["schemas"]["AuditMark"];
                /** @description Whether all rows that were looked at are good. */
                intact: boolean;
                /**
                 * Format: int64
                 * @description What to send as `from` to go on. Nothing: that was all.
                 */
                next?: number | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_BackupCodes: {
            /** @description Ten codes that each stand in for the authenticator once, shown this once. */
            data?: {
                /** @description As in `1a2b3-c4d5e`. */
                backup_codes: string[];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_CliCode: {
            /** @description A one-time code for the CLI, good for 2 minutes. */
            data?: {
                /** @description The code. */
                code: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_ClientVersion: {
            /** @description `GET /api/client-version?target=linux-x86_64`: the release for a machine. */
            data?: {
                /** @description The path to download it from, on this server. */
                path: string;
                /** @description Its SHA-256, in hexadecimal digits. */
                sha256: string;
                /** @description The signature of its [`release_statement`], in base64: ECDSA, P-256, SHA-256, DER. */
                signature: string;
                /**
                 * Format: int64
                 * @description Its size, in bytes.
                 */
                size: number;
                /** @description What it is built for, as in `linux-x86_64`. */
                target: string;
                /** @description Its version. */
                version: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_CreatedApiKey: {
            /** @description A new API key, shown this once. */
            data?: {
                /** @description What is kept of it. */
                info: components["schemas"]["ApiKeyInfo"];
                /** @description The key itself. */
                key: components["schemas"]["ApiKey"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_CreatedAuthKey: {
            /** @description A new auth key, shown this once. */
            data?: {
                /** @description What is kept of it. */
                info: components["schemas"]["AuthKeyInfo"];
                /** @description The key itself. */
                key: components["schemas"]["AuthKey"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_DnsSettings: {
            /** @description An org's names, `GET` and `PUT /api/orgs/{org}/dns`. */
            data?: {
                /**
                 * @description Who answers for names that nothing else here speaks of. None: whoever did before on each
                 *     machine.
                 * @default []
                 */
                nameservers?: string[];
                /**
                 * @description Names beside those of machines.
                 * @default []
                 */
                records?: components["schemas"]["DnsRecord"][];
                /**
                 * @description Domains to look in for short names, after the org's own.
                 * @default []
                 */
                search?: string[];
                /**
                 * @description Domains, and who answers for them and all names below.
                 * @default {}
                 */
                split?: {
                    [key: string]: string[];
                };
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_DryRun: {
            /** @description What would happen if a document were saved. */
            data?: {
                /** @description Why it would be refused: what is wrong with it, or the tests that it does not pass. */
                faults: components["schemas"]["Fault"][];
                impact?: components["schemas"]["Impact"] | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Empty: {
            /** @description An answer that says nothing but "done". */
            data?: Record<string, unknown>;
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Evaluation: {
            /** @description The answer to [`EvaluateRequest`]. */
            data?: components["schemas"]["Verdict"] & {
                /** @description The destination machine's name. */
                dst: string;
                /** @description The source machine's name. */
                src: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Gateway: {
            /** @description A machine that carries static peers. `GET /api/orgs/{org}/gateways` lists them. */
            data?: {
                /** @description As in [`GatewayRequest`]. */
                endpoint: string;
                /**
                 * Format: int32
                 * @description As in [`GatewayRequest`].
                 */
                listen_port: number;
                /** @description The machine. */
                machine: components["schemas"]["MachineId"];
                /** @description Its name. */
                name: string;
                /** @description Whether it is connected. */
                online: boolean;
                /**
                 * Format: int32
                 * @description How many static peers it has, approved or not, at most [`MAX_STATIC_PEERS`].
                 */
                static_peers: number;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_HeartbeatAnswer: {
            /** @description Answer to a heartbeat. */
            data?: {
                /** @description A fresh relay ticket ([`crate::ticket`]). `None`: the machine is not in the network. */
                relay_ticket?: string | null;
                /**
                 * Format: date-time
                 * @description The control plane's clock.
                 */
                server_time: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_InvitationPreview: {
            /** @description `POST /api/invitations/preview`: what an invitation is about, for who holds its token. */
            data?: {
                /** @description Whom it is for. */
                email: string;
                /**
                 * Format: date-time
                 * @description When it ends.
                 */
                expires_at: string;
                /** @description E-mail of who has invited. `None`: no member any more. */
                inviter?: string | null;
                /** @description The org that invites. */
                org_name: string;
                /** @description The role that it gives. */
                role: components["schemas"]["Role"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Invited: {
            /** @description An invitation that was made. */
            data?: {
                /** @description What is kept of it. */
                invitation: components["schemas"]["InvitationInfo"];
                /** @description Its token, where no mail is sent: to be handed on to whom it is for. */
                token?: string | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_JoinInfo: {
            /** @description `GET /api/join`: what a machine has to know of this deployment to join it. None of it is secret. */
            data?: {
                /** @description What to type, for each system. */
                lines: components["schemas"]["JoinLine"][];
                /** @description The pin of its certificate, `sha256:…`. `None`: the certificate is one of a public authority, or a proxy's. */
                pin?: string | null;
                /** @description The control plane's address. */
                server: string;
                /** @description The control plane's version. */
                version: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_KemKeyAnswer: {
            /** @description `GET /api/kem-keys/{hash}`, bearer: machine token. Only keys of peers in the caller's netmap. */
            data?: {
                /** @description The key; the caller checks it against the hash it asked for. */
                kem_key: components["schemas"]["KemPublicKey"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Machine: {
            /** @description An entry of `GET /api/orgs/{org}/machines`; one alone: `GET /api/orgs/{org}/machines/{machine}`. */
            data?: components["schemas"]["MachineLife"] & {
                /** @description The agent's version. */
                agent_version: string;
                /**
                 * Format: date-time
                 * @description When it was enrolled.
                 */
                created_at: string;
                /** @description Its full DNS name. */
                dns_name: string;
                home_region?: components["schemas"]["RegionId"] | null;
                /** @description The machine's id. */
                id: components["schemas"]["MachineId"];
                /**
                 * Format: ipv4
                 * @description Tailnet address, IPv4.
                 */
                ipv4: string;
                /**
                 * Format: ipv6
                 * @description Tailnet address, IPv6.
                 */
                ipv6: string;
                /**
                 * Format: date-time
                 * @description When it must sign in again. `None`: never.
                 */
                key_expires_at?: string | null;
                /**
                 * Format: date-time
                 * @description When it was last heard of.
                 */
                last_seen?: string | null;
                /** @description Its name. */
                name: string;
                /** @description Whether it is connected. */
                online: boolean;
                /** @description Operating system and architecture. */
                os: string;
                /** @description How it stands with the org's posture policies. */
                posture: components["schemas"]["PostureStanding"];
                tunnels?: components["schemas"]["TunnelMix"] | null;
                /** @description E-mail of the user whose it is. `None`: an auth key enrolled it, or it has tags. */
                user?: string | null;
                /** @description WireGuard public key. */
                wg_key: components["schemas"]["WgPublicKey"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_MachineConnections: {
            /** @description `GET /api/orgs/{org}/machines/{machine}/connections` */
            data?: {
                /** @description Those that it told of. */
                connections: components["schemas"]["NamedConnection"][];
                /**
                 * Format: int32
                 * @description How many tunnels it has.
                 */
                count: number;
                /**
                 * Format: date-time
                 * @description When the machine told. `None`: not lately.
                 */
                reported_at?: string | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_MachineFacets: {
            /** @description `GET /api/orgs/{org}/machine-facets` */
            data?: {
                /**
                 * Format: int64
                 * @description All machines.
                 */
                count: number;
                /**
                 * Format: int64
                 * @description Those that wait for approval.
                 */
                pending: number;
                /** @description Operating systems without their architectures. */
                systems: components["schemas"]["Facet"][];
                /** @description Tags. */
                tags: components["schemas"]["Facet"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_MachinePosture: {
            /** @description An entry of `GET /api/orgs/{org}/posture/machines`; one alone: `…/posture/machines/{machine}`. */
            data?: {
                consequence?: components["schemas"]["OnFailure"] | null;
                /** @description Whether that still counts. */
                current: boolean;
                /** @description The machine. */
                machine: components["schemas"]["MachineId"];
                /** @description Its name. */
                name: string;
                report?: components["schemas"]["PostureReport"] | null;
                /**
                 * Format: date-time
                 * @description When.
                 */
                reported_at?: string | null;
                /** @description What each policy that is for the machine says. */
                results: components["schemas"]["PostureResult"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_MachineRoutes: {
            /** @description The networks behind a machine; an entry of `GET /api/orgs/{org}/routes`. */
            data?: {
                /** @description The machine. */
                machine: components["schemas"]["MachineId"];
                /** @description Its name. */
                name: string;
                /** @description What it offers. */
                routes: components["schemas"]["OfferedRoute"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Me: {
            /** @description `GET /api/auth/me` */
            data?: {
                /** @description Its e-mail address. */
                email: string;
                /** @description The account. */
                id: components["schemas"]["UserId"];
                /** @description Whether sign-in asks for a second factor. */
                mfa?: boolean;
                /** @description The orgs that it is a member of. */
                orgs: components["schemas"]["OrgMembership"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Member: {
            /** @description An entry of `GET /api/orgs/{org}/members`. */
            data?: {
                /** @description Its e-mail address. */
                email: string;
                /**
                 * Format: date-time
                 * @description Since when.
                 */
                joined_at: string;
                /** @description Its role. */
                role: components["schemas"]["Role"];
                /** @description The account. */
                user: components["schemas"]["UserId"];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_OrgConnections: {
            /** @description `GET /api/orgs/{org}/connections` */
            data?: {
                /** @description Whether machines were left out: an org has more than [`MAX_TOLD_MACHINES`]. */
                is_partial: boolean;
                /** @description Each tunnel once, as one of its ends told of it: the one that told last, if both did. */
                tunnels: components["schemas"]["OrgTunnel"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_OrgMembership: {
            /** @description An org as one of its members sees it. */
            data?: {
                /** @description The org. */
                id: components["schemas"]["OrgId"];
                /** @description Its name. */
                name: string;
                /** @description The caller's role in it. */
                role: components["schemas"]["Role"];
                /** @description Its label in DNS names. */
                slug: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_OrgRelays: {
            /** @description The relay map as an org sees it. */
            data?: {
                /** @description Every region that the org's machines may use. */
                regions: components["schemas"]["OrgRegion"][];
                /** @description What the org's own relays check tickets with: `ztna-derp --ticket-key`. */
                ticket_key: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_OrgSettings: {
            /** @description `GET /api/orgs/{org}/settings`, and the answer to `PATCH`. */
            data?: {
                /** @description Where the IPv4 addresses of machines are from. */
                ipv4_network: string;
                /** @description Where the IPv6 addresses of machines are from. */
                ipv6_network: string;
                /**
                 * Format: int32
                 * @description Days after which a machine has to sign in again, counted from its sign-in.
                 */
                key_expiry_days: number;
                /** @description Whether nothing passes between the org's machines, whatever the policy says. */
                lockdown: boolean;
                /** @description Whether new machines wait for an admin's approval. Those that are in stay in. */
                machine_approval: boolean;
                /** @description The org's name. */
                name: string;
                /**
                 * @description What the org's tunnels demand. Those between two agents always have a key of the post-quantum handshake; under
                 *     `preferred`, plain WireGuard devices, which have none up to their gateway, may come in as static peers.
                 */
                pq: components["schemas"]["PqMode"];
                /** @description Its label in the names of machines. Stays as it was made. */
                slug: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_PolicyDocument: {
            /** @description `GET /api/orgs/{org}/policy`, and the answer to every change. */
            data?: components["schemas"]["PolicyVersion"] & {
                /** @description The document, HuJSON. */
                text: string;
                /** @description What rules ask for that this control plane never knows. */
                warnings?: string[];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_PolicyVersionText: {
            /** @description `GET /api/orgs/{org}/policy/versions/{version}` */
            data?: components["schemas"]["PolicyDocument"] & {
                /** @description What is different from the version before, as a unified diff. */
                diff: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_PosturePolicy: {
            /** @description A posture policy of an org. */
            data?: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                created_at: string;
                /** @description Its id. */
                id: components["schemas"]["PosturePolicyId"];
                /** @description What it says. */
                policy: components["schemas"]["PosturePolicySpec"];
                /**
                 * Format: date-time
                 * @description When it was changed last.
                 */
                updated_at: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Reach: {
            /**
             * @description `GET /api/orgs/{org}/machines/{machine}/reach`: whom a machine may open something towards, and who towards it, as the
             *     rules stand now.
             */
            data?: {
                /** @description Who reaches it. */
                reached_by: components["schemas"]["ReachList"];
                /** @description Whom it reaches. */
                reaches: components["schemas"]["ReachList"];
                /** @description The rules that are named there. */
                rules: components["schemas"]["ReachRule"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_RegionDocument: {
            /** @description A region as it is written and shown: what clients get, and where it lies. */
            data?: components["schemas"]["RelayRegion"] & components["schemas"]["Location"];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Registered: {
            /** @description Answer to a registration. */
            data?: {
                /** @description Its full DNS name. */
                dns_name: string;
                /**
                 * Format: ipv4
                 * @description Tailnet address, IPv4.
                 */
                ipv4: string;
                /**
                 * Format: ipv6
                 * @description Tailnet address, IPv6.
                 */
                ipv6: string;
                /**
                 * Format: date-time
                 * @description When the machine must sign in again. `None`: never.
                 */
                key_expires_at?: string | null;
                /** @description The machine's id. */
                machine_id: components["schemas"]["MachineId"];
                /** @description The name that it got. */
                name: string;
                /** @description The machine token, shown this once. */
                node_key: components["schemas"]["MachineToken"];
                /** @description The machine's org. */
                org: components["schemas"]["OrgId"];
                /** @description The org's name. */
                org_name: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_RelayHealth: {
            /** @description `GET /api/derp-health`: whether the relays work, as the control plane sees them. */
            data?: {
                /** @description The regions that the caller may see. */
                regions: components["schemas"]["RegionHealth"][];
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Session: {
            /** @description A human session: answer to login, refresh and the CLI's code exchange. */
            data?: {
                /** @description ES256 JWT, 15 minutes. */
                access_token: string;
                /**
                 * Format: int64
                 * @description Seconds until the access token ends.
                 */
                expires_in: number;
                /** @description Single use, 30 days, rotated at each refresh. */
                refresh_token: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_SignInWays: {
            /** @description `GET /api/auth/ways`: how people sign in at this deployment. */
            data?: {
                /** @description Whether letters are sent: new addresses have to be confirmed, and forgotten passwords can be replaced. */
                mail: boolean;
                /** @description The deployment's own providers. */
                providers: components["schemas"]["SignInProvider"][];
                /** @description Whether anybody may make an account with a password. */
                sign_up: boolean;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_SsoDiscovery: {
            /**
             * @description `GET /api/auth/sso?hint=…`: whether an address, or an org's label, leads to an org's own provider. Of an address the
             *     domain alone counts, so that nothing is told of accounts.
             */
            data?: {
                /** @description What the browser opens, with `&return_to=` added. `None`: no org with a sign-in of its own is known by that. */
                start?: string | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_SsoDomain: {
            /**
             * @description An entry of `GET /api/orgs/{org}/sso/domains`: a domain for whose addresses the org's provider may make
             *     accounts. `POST …/domains/{domain}/prove` looks the record up; `DELETE …/domains/{domain}` gives the
             *     domain up.
             */
            data?: {
                /** @description The domain. */
                domain: string;
                /**
                 * Format: date-time
                 * @description When the record was found. `None`: not yet.
                 */
                proved_at?: string | null;
                /** @description The name of the TXT record that proves it. */
                record_name: string;
                /** @description What that record has to hold. */
                record_value: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_SsoSettings: {
            /** @description `GET /api/orgs/{org}/sso` */
            data?: {
                /** @description As in [`PutSsoRequest`]. The secret is not shown. */
                client_id: string;
                /** @description As in [`PutSsoRequest`]. */
                create_members: boolean;
                /** @description As in [`PutSsoRequest`]. */
                group_rules: components["schemas"]["GroupRule"][];
                /** @description As in [`PutSsoRequest`]. */
                groups_claim: string;
                /** @description As in [`PutSsoRequest`]. */
                issuer: string;
                /** @description The redirect URI to register at the provider. */
                redirect_uri: string;
                /** @description As in [`PutSsoRequest`]. */
                required: boolean;
                /** @description As in [`PutSsoRequest`]. */
                trust_email: boolean;
                /**
                 * Format: date-time
                 * @description When this was changed last.
                 */
                updated_at: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_StaticPeerConfig: {
            /** @description What a device is configured with. Shown once. */
            data?: {
                /** @description The file for `wg-quick` and the WireGuard apps. Without a private key if the device has made its own. */
                config: string;
                /** @description What to know of it. For people. */
                notice: string;
                /** @description The static peer. */
                peer: components["schemas"]["StaticPeer"];
                /** @description The same as a QR code, in SVG. `None`: without a private key it would be of no use. */
                qr_svg?: string | null;
                /** @description The same for terminals: lines of block characters. */
                qr_text?: string | null;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_TotpSetup: {
            /** @description A new TOTP secret (RFC 6238: SHA-1, six digits, 30 seconds), shown this once. */
            data?: {
                /** @description The secret in base 32, to be typed. */
                secret: string;
                /** @description The same as an `otpauth://` URL, to be shown as a QR code. */
                url: string;
            };
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_ApiKeyInfo: {
            data?: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                created_at: string;
                /** @description For whom it acts. */
                created_by: components["schemas"]["UserId"];
                /** @description For people. */
                description: string;
                /**
                 * Format: date-time
                 * @description When it ends.
                 */
                expires_at: string;
                /** @description The key's id. */
                id: components["schemas"]["ApiKeyId"];
                /**
                 * Format: date-time
                 * @description When it was used last, to a minute.
                 */
                last_used_at?: string | null;
                /**
                 * Format: date-time
                 * @description When it was revoked.
                 */
                revoked_at?: string | null;
                /** @description What it may be used for. */
                scopes: string[];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_AuthKeyInfo: {
            data?: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                created_at: string;
                /** @description E-mail of the member who made it. `None`: no member any more. */
                created_by?: string | null;
                /** @description For people. */
                description: string;
                /** @description Whether its machines are deleted once they have been silent for a while. */
                ephemeral: boolean;
                /**
                 * Format: date-time
                 * @description When it ends.
                 */
                expires_at: string;
                /** @description The key's id. */
                id: components["schemas"]["AuthKeyId"];
                /**
                 * Format: int64
                 * @description How many it admits. `None`: made before there was a bound.
                 */
                max_uses?: number | null;
                /** @description Whether its machines need no approval. */
                preapproved: boolean;
                /** @description Whether it enrols more than one machine. */
                reusable: boolean;
                /**
                 * Format: date-time
                 * @description When it was revoked.
                 */
                revoked_at?: string | null;
                /** @description Tags of its machines. */
                tags: string[];
                /**
                 * Format: int64
                 * @description Registrations made with it.
                 */
                uses: number;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_Gateway: {
            data?: {
                /** @description As in [`GatewayRequest`]. */
                endpoint: string;
                /**
                 * Format: int32
                 * @description As in [`GatewayRequest`].
                 */
                listen_port: number;
                /** @description The machine. */
                machine: components["schemas"]["MachineId"];
                /** @description Its name. */
                name: string;
                /** @description Whether it is connected. */
                online: boolean;
                /**
                 * Format: int32
                 * @description How many static peers it has, approved or not, at most [`MAX_STATIC_PEERS`].
                 */
                static_peers: number;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_InvitationInfo: {
            data?: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                created_at: string;
                /** @description Whom it is for. */
                email: string;
                /**
                 * Format: date-time
                 * @description When it ends.
                 */
                expires_at: string;
                /** @description The invitation. */
                id: components["schemas"]["InvitationId"];
                /** @description The role that they get. */
                role: components["schemas"]["Role"];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_Machine: {
            data?: (components["schemas"]["MachineLife"] & {
                /** @description The agent's version. */
                agent_version: string;
                /**
                 * Format: date-time
                 * @description When it was enrolled.
                 */
                created_at: string;
                /** @description Its full DNS name. */
                dns_name: string;
                home_region?: components["schemas"]["RegionId"] | null;
                /** @description The machine's id. */
                id: components["schemas"]["MachineId"];
                /**
                 * Format: ipv4
                 * @description Tailnet address, IPv4.
                 */
                ipv4: string;
                /**
                 * Format: ipv6
                 * @description Tailnet address, IPv6.
                 */
                ipv6: string;
                /**
                 * Format: date-time
                 * @description When it must sign in again. `None`: never.
                 */
                key_expires_at?: string | null;
                /**
                 * Format: date-time
                 * @description When it was last heard of.
                 */
                last_seen?: string | null;
                /** @description Its name. */
                name: string;
                /** @description Whether it is connected. */
                online: boolean;
                /** @description Operating system and architecture. */
                os: string;
                /** @description How it stands with the org's posture policies. */
                posture: components["schemas"]["PostureStanding"];
                tunnels?: components["schemas"]["TunnelMix"] | null;
                /** @description E-mail of the user whose it is. `None`: an auth key enrolled it, or it has tags. */
                user?: string | null;
                /** @description WireGuard public key. */
                wg_key: components["schemas"]["WgPublicKey"];
            })[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_MachinePosture: {
            data?: {
                consequence?: components["schemas"]["OnFailure"] | null;
                /** @description Whether that still counts. */
                current: boolean;
                /** @description The machine. */
                machine: components["schemas"]["MachineId"];
                /** @description Its name. */
                name: string;
                report?: components["schemas"]["PostureReport"] | null;
                /**
                 * Format: date-time
                 * @description When.
                 */
                reported_at?: string | null;
                /** @description What each policy that is for the machine says. */
                results: components["schemas"]["PostureResult"][];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_MachineRoutes: {
            data?: {
                /** @description The machine. */
                machine: components["schemas"]["MachineId"];
                /** @description Its name. */
                name: string;
                /** @description What it offers. */
                routes: components["schemas"]["OfferedRoute"][];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_Member: {
            data?: {
                /** @description Its e-mail address. */
                email: string;
                /**
                 * Format: date-time
                 * @description Since when.
                 */
                joined_at: string;
                /** @description Its role. */
                role: components["schemas"]["Role"];
                /** @description The account. */
                user: components["schemas"]["UserId"];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_OwnIdentity: {
            data?: {
                /** @description That provider's issuer. */
                issuer?: string | null;
                /**
                 * Format: date-time
                 * @description Since when.
                 */
                linked_at: string;
                /** @description That org's name. */
                org_name?: string | null;
                /** @description `google`, `github`, or the id of the org whose provider it is. */
                provider: string;
                /** @description The provider's own name for the person. */
                subject: string;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_PolicyGroup: {
            data?: {
                /** @description Its name, as in `group:eng`. */
                name: string;
                /** @description Who is in it, by address. */
                people: components["schemas"]["GroupPerson"][];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_PolicyRule: {
            data?: {
                /** @description Where it begins. */
                at: components["schemas"]["Position"];
                /** @description Names it in calls. Follows from the rule's own `id`; of a rule without, from what it says. */
                id: components["schemas"]["RuleId"];
                /** @description Whether it holds now; `when` and `expires` decide. */
                in_force: boolean;
                /** @description The rule as it is written, without comments. */
                rule: Record<string, unknown>;
                /** @description Where it stands. */
                section: components["schemas"]["Section"];
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_PolicyVersion: {
            data?: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                at: string;
                /** @description Who made it: an e-mail address. `None`: nobody who is a member now. */
                author?: string | null;
                /** @description How it came about. */
                note: string;
                /**
                 * Format: int64
                 * @description Grows by one with each change.
                 */
                version: number;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_PosturePolicy: {
            data?: {
                /**
                 * Format: date-time
                 * @description When it was made.
                 */
                created_at: string;
                /** @description Its id. */
                id: components["schemas"]["PosturePolicyId"];
                /** @description What it says. */
                policy: components["schemas"]["PosturePolicySpec"];
                /**
                 * Format: date-time
                 * @description When it was changed last.
                 */
                updated_at: string;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_SessionInfo: {
            data?: {
                /**
                 * Format: date-time
                 * @description When somebody signed in.
                 */
                began_at: string;
                /** @description What the client calls itself (`User-Agent`). */
                client: string;
                /** @description Whether it is the caller's. */
                current: boolean;
                /** @description The session. */
                id: components["schemas"]["SessionId"];
                /** @description From where, at that time. */
                ip?: string | null;
                /**
                 * Format: date-time
                 * @description When it was refreshed last.
                 */
                refreshed_at: string;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_SsoDomain: {
            data?: {
                /** @description The domain. */
                domain: string;
                /**
                 * Format: date-time
                 * @description When the record was found. `None`: not yet.
                 */
                proved_at?: string | null;
                /** @description The name of the TXT record that proves it. */
                record_name: string;
                /** @description What that record has to hold. */
                record_value: string;
            }[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The envelope of every answer under `/api`: `{"success", "data", "error"}`. */
        Envelope_Vec_StaticPeer: {
            data?: (components["schemas"]["Machine"] & {
                gateway?: components["schemas"]["MachineId"] | null;
                /** @description The gateway's name. */
                gateway_name?: string | null;
                /** @description Why it is not online, if that is its gateway's doing. For people. */
                message?: string | null;
                /** @description Whether it has a preshared key. */
                preshared_key: boolean;
                /** @description The device's WireGuard key. */
                public_key: components["schemas"]["WgPublicKey"];
            })[];
            error?: components["schemas"]["ErrorBody"] | null;
            /** @description Whether `data` holds the answer; if not, `error` says why. */
            success: boolean;
        };
        /** @description The error of an answer. */
        ErrorBody: {
            /** @description For programs. */
            code: components["schemas"]["ErrorCode"];
            /** @description For people: what happened, to what, and what to do next. */
            message: string;
        };
        /**
         * @description What went wrong, for programs. The message beside it is for people.
         *
         *     Sent as SCREAMING_SNAKE_CASE. A code that this build does not know reads as
         *     [`ErrorCode::InternalError`].
         * @enum {string}
         */
        ErrorCode: "VALIDATION_ERROR" | "INVALID_JSON" | "UNAUTHORIZED" | "INVALID_CREDENTIALS" | "EMAIL_UNCONFIRMED" | "MFA_REQUIRED" | "ACCOUNT_LOCKED" | "FORBIDDEN" | "CSRF_REJECTED" | "NOT_FOUND" | "CONFLICT" | "DUPLICATE_INVITATION" | "ALREADY_MEMBER" | "EMAIL_MISMATCH" | "RATE_LIMITED" | "INVALID_KEY" | "KEY_USED" | "KEY_EXPIRED" | "PENDING_APPROVAL" | "MACHINE_LOCKED" | "MACHINE_DISABLED" | "REGISTRATION_CONFLICT" | "MACHINE_DELETED" | "ADDRESSES_EXHAUSTED" | "UPGRADE_REQUIRED" | "UNAVAILABLE" | "INTERNAL_ERROR";
        /** @description `POST /api/orgs/{org}/acl-evaluate` */
        EvaluateRequest: {
            /**
             * Format: date-time
             * @description When. Absent: now.
             */
            at?: string | null;
            /** @description Towards whom: the same, or an address behind a route. */
            dst: string;
            /**
             * Format: int32
             * @description The destination port; protocols with ports need one.
             */
            port?: number | null;
            /** @description `tcp` (if absent), `udp`, `icmp`, `sctp`, another name or a number. */
            protocol?: string | null;
            /** @description Who opens: a machine's name, id or tailnet address. */
            src: string;
        };
        /** @description The answer to [`EvaluateRequest`]. */
        Evaluation: components["schemas"]["Verdict"] & {
            /** @description The destination machine's name. */
            dst: string;
            /** @description The source machine's name. */
            src: string;
        };
        /** @description A value, and how many machines have it. */
        Facet: {
            /**
             * Format: int64
             * @description How many.
             */
            count: number;
            /** @description The value. */
            value: string;
        };
        /** @description Why a document cannot be used: where, what is wrong, what is allowed. */
        Fault: {
            /** @description Where. */
            at: components["schemas"]["Position"];
            /** @description What is wrong, and the next step. */
            message: string;
        };
        /** @description A machine that carries static peers. `GET /api/orgs/{org}/gateways` lists them. */
        Gateway: {
            /** @description As in [`GatewayRequest`]. */
            endpoint: string;
            /**
             * Format: int32
             * @description As in [`GatewayRequest`].
             */
            listen_port: number;
            /** @description The machine. */
            machine: components["schemas"]["MachineId"];
            /** @description Its name. */
            name: string;
            /** @description Whether it is connected. */
            online: boolean;
            /**
             * Format: int32
             * @description How many static peers it has, approved or not, at most [`MAX_STATIC_PEERS`].
             */
            static_peers: number;
        };
        /** @description `PUT /api/orgs/{org}/machines/{machine}/gateway`. Answer: [`Gateway`]. */
        GatewayRequest: {
            /** @description Where devices reach the machine from outside: `host:port`, `[2001:db8::1]:port`. */
            endpoint: string;
            /**
             * Format: int32
             * @description The UDP port that its agent listens at. `None`: that of the endpoint.
             */
            listen_port?: number | null;
        };
        /** @description Somebody in a group. */
        GroupPerson: {
            /** @description The e-mail address. */
            email: string;
            /** @description Whether a member of the org has it. If not, the entry means nobody yet. */
            member: boolean;
            /** @description Whether the identity provider has the person in it, as of the last sign-in. If not, the document alone. */
            provider: boolean;
        };
        /** @description What a group of the provider means in the org. */
        GroupRule: {
            /** @description The group as the provider names it. */
            group: string;
            /** @description The group of the policy that its people are in, without `group:`. The policy has to declare it. */
            policy_group?: string | null;
            role?: components["schemas"]["Role"] | null;
        };
        /** @description `GET /health` */
        Health: {
            /** @description `ok`; `degraded: …` if it serves with less; else what is wrong. */
            status: string;
            /** @description The build's version. */
            version: string;
        };
        /** @description Answer to a heartbeat. */
        HeartbeatAnswer: {
            /** @description A fresh relay ticket ([`crate::ticket`]). `None`: the machine is not in the network. */
            relay_ticket?: string | null;
            /**
             * Format: date-time
             * @description The control plane's clock.
             */
            server_time: string;
        };
        /** @description `POST /api/machine-heartbeat`, bearer: machine token. Every [`HEARTBEAT_SECONDS`]. */
        HeartbeatRequest: {
            /** @description The agent's version. */
            agent_version: string;
            posture?: components["schemas"]["PostureReport"] | null;
            /** @description The volatile state, for the case that the stream is down. */
            report: components["schemas"]["VolatileReport"];
        };
        /** @description What a change of the policy does, as the rules stand at this moment. */
        Impact: {
            /** @description Sources that may open something before and after, of which other rules speak. */
            changes: components["schemas"]["Pairs"];
            /** @description Sources that may open something towards a destination, and could nothing before. */
            connects: components["schemas"]["Pairs"];
            /** @description Sources that may open nothing towards a destination any more. */
            cuts: components["schemas"]["Pairs"];
        };
        /**
         * Format: uuid
         * @description An invitation into an org.
         */
        InvitationId: string;
        /** @description An entry of `GET /api/orgs/{org}/invitations`. `DELETE …/invitations/{id}` withdraws it. */
        InvitationInfo: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /** @description Whom it is for. */
            email: string;
            /**
             * Format: date-time
             * @description When it ends.
             */
            expires_at: string;
            /** @description The invitation. */
            id: components["schemas"]["InvitationId"];
            /** @description The role that they get. */
            role: components["schemas"]["Role"];
        };
        /** @description `POST /api/invitations/preview`: what an invitation is about, for who holds its token. */
        InvitationPreview: {
            /** @description Whom it is for. */
            email: string;
            /**
             * Format: date-time
             * @description When it ends.
             */
            expires_at: string;
            /** @description E-mail of who has invited. `None`: no member any more. */
            inviter?: string | null;
            /** @description The org that invites. */
            org_name: string;
            /** @description The role that it gives. */
            role: components["schemas"]["Role"];
        };
        /** @description The token of an invitation into an org. `ztna-invite-` + 43 characters. */
        InvitationToken: string;
        /** @description An invitation that was made. */
        Invited: {
            /** @description What is kept of it. */
            invitation: components["schemas"]["InvitationInfo"];
            /** @description Its token, where no mail is sent: to be handed on to whom it is for. */
            token?: string | null;
        };
        /** @description `POST /api/orgs/{org}/invitations`. Answer: [`Invited`]. */
        InviteRequest: {
            /** @description E-mail address of who is to come. */
            email: string;
            /** @description The role that they get. */
            role: components["schemas"]["Role"];
        };
        /** @description The form of the page. The address is the invitation's. */
        JoinForm: {
            code?: string;
            password: string;
            step: components["schemas"]["JoinStep"];
            token: string;
        };
        /** @description `GET /api/join`: what a machine has to know of this deployment to join it. None of it is secret. */
        JoinInfo: {
            /** @description What to type, for each system. */
            lines: components["schemas"]["JoinLine"][];
            /** @description The pin of its certificate, `sha256:…`. `None`: the certificate is one of a public authority, or a proxy's. */
            pin?: string | null;
            /** @description The control plane's address. */
            server: string;
            /** @description The control plane's version. */
            version: string;
        };
        /** @description What joins a machine, as lines for a shell of its person; on Windows for a PowerShell of an administrator. */
        JoinLine: {
            /** @description Joins it without one, by an auth key in place of [`AUTH_KEY_PLACE`]. */
            auth_key: string;
            /** @description Whether the lines install the program first. If not, it has to be there. */
            installs: boolean;
            /** @description Signs a person in by browser and joins the machine as theirs. */
            login: string;
            /** @description `linux`, `macos` or `windows`. */
            os: string;
        };
        /** @enum {string} */
        JoinStep: "sign-in" | "sign-up";
        /** @description `GET /api/kem-keys/{hash}`, bearer: machine token. Only keys of peers in the caller's netmap. */
        KemKeyAnswer: {
            /** @description The key; the caller checks it against the hash it asked for. */
            kem_key: components["schemas"]["KemPublicKey"];
        };
        /**
         * @description SHA-256 of a machine's ML-KEM-768 encapsulation key. Printed as `kem:` + 64 hex.
         *
         *     The netmap carries this; the 1,184-byte key itself is fetched once and checked against it.
         */
        KemKeyHash: string;
        /**
         * @description An ML-KEM-768 encapsulation key as it travels: 1,184 bytes, base64 in JSON. Its inner form
         *     (FIPS 203 §7.2 modulus check) is validated by whoever encapsulates to it.
         */
        KemPublicKey: string;
        /**
         * @description Whether something is so, as far as the machine can honestly know.
         * @enum {string}
         */
        Known: "yes" | "no" | "unknown";
        /** @description A place on Earth (WGS 84), or none. */
        Location: {
            /**
             * Format: double
             * @description Degrees, north positive.
             */
            latitude?: number | null;
            /**
             * Format: double
             * @description Degrees, east positive.
             */
            longitude?: number | null;
        };
        /** @description `POST /api/auth/login` */
        LoginRequest: {
            /** @description E-mail address. */
            email: string;
            /** @description Password. */
            password: string;
            /** @description Code of the authenticator, or a backup code, for an account with a second factor. */
            totp_code?: string | null;
        };
        /** @description An entry of `GET /api/orgs/{org}/machines`; one alone: `GET /api/orgs/{org}/machines/{machine}`. */
        Machine: components["schemas"]["MachineLife"] & {
            /** @description The agent's version. */
            agent_version: string;
            /**
             * Format: date-time
             * @description When it was enrolled.
             */
            created_at: string;
            /** @description Its full DNS name. */
            dns_name: string;
            home_region?: components["schemas"]["RegionId"] | null;
            /** @description The machine's id. */
            id: components["schemas"]["MachineId"];
            /**
             * Format: ipv4
             * @description Tailnet address, IPv4.
             */
            ipv4: string;
            /**
             * Format: ipv6
             * @description Tailnet address, IPv6.
             */
            ipv6: string;
            /**
             * Format: date-time
             * @description When it must sign in again. `None`: never.
             */
            key_expires_at?: string | null;
            /**
             * Format: date-time
             * @description When it was last heard of.
             */
            last_seen?: string | null;
            /** @description Its name. */
            name: string;
            /** @description Whether it is connected. */
            online: boolean;
            /** @description Operating system and architecture. */
            os: string;
            /** @description How it stands with the org's posture policies. */
            posture: components["schemas"]["PostureStanding"];
            tunnels?: components["schemas"]["TunnelMix"] | null;
            /** @description E-mail of the user whose it is. `None`: an auth key enrolled it, or it has tags. */
            user?: string | null;
            /** @description WireGuard public key. */
            wg_key: components["schemas"]["WgPublicKey"];
        };
        /**
         * @description `POST /api/orgs/{org}/machines/{machine}/actions`. Answer: [`crate::api::Machine`], as it is then.
         *
         *     Owners and admins do all of it. A member may `lock` a machine of their own, a lost one say.
         */
        MachineAction: {
            /** @enum {string} */
            action: "approve";
        } | {
            /** @enum {string} */
            action: "deny";
        } | {
            /** @enum {string} */
            action: "quarantine";
            /** @description For people, the machine's among them; at most [`MAX_REASON`] characters. */
            reason?: string;
        } | {
            /** @enum {string} */
            action: "release";
        } | {
            /** @enum {string} */
            action: "lock";
            /** @description As in `quarantine`. */
            reason?: string;
        } | {
            /** @enum {string} */
            action: "unlock";
        } | {
            /** @enum {string} */
            action: "disable";
            /** @description As in `quarantine`. */
            reason?: string;
        } | {
            /** @enum {string} */
            action: "enable";
        } | {
            /** @enum {string} */
            action: "wipe";
            /** @description The machine's name, so that no other is wiped by mistake. */
            confirm: string;
        };
        /** @description `GET /api/orgs/{org}/machines/{machine}/connections` */
        MachineConnections: {
            /** @description Those that it told of. */
            connections: components["schemas"]["NamedConnection"][];
            /**
             * Format: int32
             * @description How many tunnels it has.
             */
            count: number;
            /**
             * Format: date-time
             * @description When the machine told. `None`: not lately.
             */
            reported_at?: string | null;
        };
        /** @description `GET /api/orgs/{org}/machine-facets` */
        MachineFacets: {
            /**
             * Format: int64
             * @description All machines.
             */
            count: number;
            /**
             * Format: int64
             * @description Those that wait for approval.
             */
            pending: number;
            /** @description Operating systems without their architectures. */
            systems: components["schemas"]["Facet"][];
            /** @description Tags. */
            tags: components["schemas"]["Facet"][];
        };
        /**
         * Format: uuid
         * @description A machine enrolled in an org.
         */
        MachineId: string;
        /** @description What has been decided of a machine; part of [`crate::api::Machine`]. */
        MachineLife: {
            auth_key?: components["schemas"]["AuthKeyId"] | null;
            /** @description Whether it is deleted after [`EPHEMERAL_SILENCE_SECONDS`] of silence. */
            ephemeral: boolean;
            /** @description Whether its sign-in ends by time. Never for a machine with tags. */
            key_expiry: boolean;
            /** @description Why, if somebody said so. */
            reason?: string | null;
            /** @description How it stands. */
            state: components["schemas"]["MachineState"];
            /** @description Its tags, as in `tag:web`. A machine with tags belongs to no user. */
            tags: string[];
            wipe?: components["schemas"]["Wipe"] | null;
        };
        /** @description An entry of `GET /api/orgs/{org}/posture/machines`; one alone: `…/posture/machines/{machine}`. */
        MachinePosture: {
            consequence?: components["schemas"]["OnFailure"] | null;
            /** @description Whether that still counts. */
            current: boolean;
            /** @description The machine. */
            machine: components["schemas"]["MachineId"];
            /** @description Its name. */
            name: string;
            report?: components["schemas"]["PostureReport"] | null;
            /**
             * Format: date-time
             * @description When.
             */
            reported_at?: string | null;
            /** @description What each policy that is for the machine says. */
            results: components["schemas"]["PostureResult"][];
        };
        /** @description The networks behind a machine; an entry of `GET /api/orgs/{org}/routes`. */
        MachineRoutes: {
            /** @description The machine. */
            machine: components["schemas"]["MachineId"];
            /** @description Its name. */
            name: string;
            /** @description What it offers. */
            routes: components["schemas"]["OfferedRoute"][];
        };
        /**
         * @description How a machine stands. Where several hold, the first of `Disabled`, `Locked`, `Expired`, `Pending`
         *     and `Quarantined` is told.
         * @enum {string}
         */
        MachineState: "pending" | "online" | "offline" | "quarantined" | "disabled" | "locked" | "expired";
        /**
         * @description A machine token (field `node_key` of the API): a machine's bearer towards the control
         *     plane, and towards nothing else. `ztna-node-` + 43 characters.
         */
        MachineToken: string;
        /**
         * @description A token that is sent by mail, and proves that its reader has the address. `ztna-mail-` + 43
         *     characters.
         */
        MailToken: string;
        /** @description `GET /api/auth/me` */
        Me: {
            /** @description Its e-mail address. */
            email: string;
            /** @description The account. */
            id: components["schemas"]["UserId"];
            /** @description Whether sign-in asks for a second factor. */
            mfa?: boolean;
            /** @description The orgs that it is a member of. */
            orgs: components["schemas"]["OrgMembership"][];
        };
        /** @description An entry of `GET /api/orgs/{org}/members`. */
        Member: {
            /** @description Its e-mail address. */
            email: string;
            /**
             * Format: date-time
             * @description Since when.
             */
            joined_at: string;
            /** @description Its role. */
            role: components["schemas"]["Role"];
            /** @description The account. */
            user: components["schemas"]["UserId"];
        };
        /** @description `POST /api/auth/mfa/disable`: switches the second factor off. */
        MfaDisableRequest: {
            /** @description A code of the authenticator, or a backup code. */
            code: string;
            /** @description The account's password. */
            password: string;
        };
        /** @description `POST /api/auth/mfa/setup`. Answer: [`TotpSetup`]. */
        MfaSetupRequest: {
            /** @description The account's password. */
            password: string;
        };
        /** @description `POST /api/auth/mfa/verify`: switches the second factor on. Answer: [`BackupCodes`]. */
        MfaVerifyRequest: {
            /** @description A code of the authenticator. */
            code: string;
        };
        /** @description A tunnel, and to whom. */
        NamedConnection: components["schemas"]["Connection"] & {
            /** @description The peer's name. */
            name: string;
        };
        /** @description A relay's health. */
        NodeHealth: {
            /**
             * Format: date-time
             * @description When it was probed last.
             */
            checked_at?: string | null;
            /** @description What does not answer and why, or why there is no probe. Told of an org's own relays only. */
            error?: string | null;
            /**
             * Format: float
             * @description Round trip from the control plane, in milliseconds.
             */
            latency_ms?: number | null;
            /** @description The node's name. */
            node: string;
            /**
             * Format: date-time
             * @description Since when it is so.
             */
            since?: string | null;
            /** @description Whether everything that it serves answered the last probe. `None`: it is not probed (yet). */
            up?: boolean | null;
        };
        /** @description A network that a machine offers to route. */
        OfferedRoute: {
            /** @description Whether it may. */
            approved: boolean;
            /** @description The network. */
            prefix: string;
            /**
             * @description Whether packets go through this machine now: of several that are approved for one network, the
             *     one with the lowest id of those that are online. Of exit nodes each machine chooses its own.
             */
            primary: boolean;
        };
        /**
         * @description What becomes of a machine that fails a posture policy once its grace is over. The graver, the later.
         * @enum {string}
         */
        OnFailure: "warn" | "restrict" | "quarantine";
        /** @description `GET /api/orgs/{org}/connections` */
        OrgConnections: {
            /** @description Whether machines were left out: an org has more than [`MAX_TOLD_MACHINES`]. */
            is_partial: boolean;
            /** @description Each tunnel once, as one of its ends told of it: the one that told last, if both did. */
            tunnels: components["schemas"]["OrgTunnel"][];
        };
        /**
         * Format: uuid
         * @description An organisation: the tenant, and the boundary that nothing crosses.
         */
        OrgId: string;
        /** @description An org as one of its members sees it. */
        OrgMembership: {
            /** @description The org. */
            id: components["schemas"]["OrgId"];
            /** @description Its name. */
            name: string;
            /** @description The caller's role in it. */
            role: components["schemas"]["Role"];
            /** @description Its label in DNS names. */
            slug: string;
        };
        /** @description A region as an org sees it. */
        OrgRegion: components["schemas"]["RegionDocument"] & {
            /** @description Whether the org may change it. */
            own: boolean;
        };
        /** @description The relay map as an org sees it. */
        OrgRelays: {
            /** @description Every region that the org's machines may use. */
            regions: components["schemas"]["OrgRegion"][];
            /** @description What the org's own relays check tickets with: `ztna-derp --ticket-key`. */
            ticket_key: string;
        };
        /** @description `GET /api/orgs/{org}/settings`, and the answer to `PATCH`. */
        OrgSettings: {
            /** @description Where the IPv4 addresses of machines are from. */
            ipv4_network: string;
            /** @description Where the IPv6 addresses of machines are from. */
            ipv6_network: string;
            /**
             * Format: int32
             * @description Days after which a machine has to sign in again, counted from its sign-in.
             */
            key_expiry_days: number;
            /** @description Whether nothing passes between the org's machines, whatever the policy says. */
            lockdown: boolean;
            /** @description Whether new machines wait for an admin's approval. Those that are in stay in. */
            machine_approval: boolean;
            /** @description The org's name. */
            name: string;
            /**
             * @description What the org's tunnels demand. Those between two agents always have a key of the post-quantum handshake; under
             *     `preferred`, plain WireGuard devices, which have none up to their gateway, may come in as static peers.
             */
            pq: components["schemas"]["PqMode"];
            /** @description Its label in the names of machines. Stays as it was made. */
            slug: string;
        };
        /** @description A tunnel between two machines of an org. */
        OrgTunnel: components["schemas"]["Connection"] & {
            /** @description Who told of it. */
            machine: components["schemas"]["MachineId"];
            /**
             * Format: date-time
             * @description When.
             */
            reported_at: string;
        };
        /** @description `GET /api/auth/identities`: whom a provider knows the caller by. */
        OwnIdentity: {
            /** @description That provider's issuer. */
            issuer?: string | null;
            /**
             * Format: date-time
             * @description Since when.
             */
            linked_at: string;
            /** @description That org's name. */
            org_name?: string | null;
            /** @description `google`, `github`, or the id of the org whose provider it is. */
            provider: string;
            /** @description The provider's own name for the person. */
            subject: string;
        };
        /** @description A machine and one that it may open something towards. */
        Pair: {
            /** @description Towards whom. */
            dst: components["schemas"]["MachineId"];
            /** @description Who opens. */
            src: components["schemas"]["MachineId"];
        };
        /** @description Pairs of machines: all are counted, the first thousand are named. */
        Pairs: {
            /**
             * Format: int64
             * @description How many there are.
             */
            count: number;
            /** @description Some of them. */
            pairs: components["schemas"]["Pair"][];
        };
        /** @description `GET /api/orgs/{org}/policy`, and the answer to every change. */
        PolicyDocument: components["schemas"]["PolicyVersion"] & {
            /** @description The document, HuJSON. */
            text: string;
            /** @description What rules ask for that this control plane never knows. */
            warnings?: string[];
        };
        /** @description `GET /api/orgs/{org}/policy/groups`: a group that the policy in force declares. */
        PolicyGroup: {
            /** @description Its name, as in `group:eng`. */
            name: string;
            /** @description Who is in it, by address. */
            people: components["schemas"]["GroupPerson"][];
        };
        /** @description A rule of the document. */
        PolicyRule: {
            /** @description Where it begins. */
            at: components["schemas"]["Position"];
            /** @description Names it in calls. Follows from the rule's own `id`; of a rule without, from what it says. */
            id: components["schemas"]["RuleId"];
            /** @description Whether it holds now; `when` and `expires` decide. */
            in_force: boolean;
            /** @description The rule as it is written, without comments. */
            rule: Record<string, unknown>;
            /** @description Where it stands. */
            section: components["schemas"]["Section"];
        };
        /** @description A version of the policy. */
        PolicyVersion: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            at: string;
            /** @description Who made it: an e-mail address. `None`: nobody who is a member now. */
            author?: string | null;
            /** @description How it came about. */
            note: string;
            /**
             * Format: int64
             * @description Grows by one with each change.
             */
            version: number;
        };
        /** @description `GET /api/orgs/{org}/policy/versions/{version}` */
        PolicyVersionText: components["schemas"]["PolicyDocument"] & {
            /** @description What is different from the version before, as a unified diff. */
            diff: string;
        };
        /** @description A place in a document, as editors count: both from 1, columns in characters. */
        Position: {
            /** @description Column. */
            column: number;
            /** @description Line. */
            line: number;
        };
        /** @description What one check says of a machine. */
        PostureCheck: {
            /** @description What it looks at. */
            check: components["schemas"]["CheckKind"];
            /** @description What was found, for people. */
            detail: string;
            /** @description What to do about it. Empty if it passed. */
            mend: string;
            /** @description Whether it is as it should be. `unknown` counts as failed. */
            passed: components["schemas"]["Known"];
        };
        /** @description A posture policy of an org. */
        PosturePolicy: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            created_at: string;
            /** @description Its id. */
            id: components["schemas"]["PosturePolicyId"];
            /** @description What it says. */
            policy: components["schemas"]["PosturePolicySpec"];
            /**
             * Format: date-time
             * @description When it was changed last.
             */
            updated_at: string;
        };
        /**
         * Format: uuid
         * @description A posture policy of an org.
         */
        PosturePolicyId: string;
        /** @description `POST /api/orgs/{org}/posture/policies` and `PUT …/{policy}`. Answer: [`PosturePolicy`]. */
        PosturePolicySpec: {
            /** @description Whether it counts. */
            enabled?: boolean;
            /**
             * Format: int32
             * @description Minutes between the first failure and what follows from it, up to [`MAX_GRACE_MINUTES`].
             */
            grace_minutes?: number;
            /** @description For people; 1 to [`MAX_POSTURE_NAME`] characters, one of its kind in the org. */
            name: string;
            /** @description What follows. */
            on_failure: components["schemas"]["OnFailure"];
            /** @description What it asks for. */
            requires: components["schemas"]["PostureRequirements"];
            /** @description Whom it is for: `tag:NAME` and `group:NAME`, any of them suffices. Empty: every machine. */
            scope?: string[];
        };
        /**
         * @description What a machine tells of its own health. Part of [`crate::api::HeartbeatRequest`]: at start, when it
         *     changes, and each [`POSTURE_SECONDS`]. Fields that a control plane does not know are skipped.
         */
        PostureReport: {
            /** @description The agent's version. */
            agent_version?: string | null;
            /** @description Whether security updates are installed without anybody's doing. */
            auto_update?: components["schemas"]["Signal"];
            /** @description Whether the file systems with people's and the system's data are encrypted. */
            disk_encryption?: components["schemas"]["Signal"];
            /** @description The distribution, as `ID` in `os-release` has it: `debian`, `ubuntu`. */
            distro?: string | null;
            /** @description Its version (`VERSION_ID`). */
            distro_version?: string | null;
            /** @description Whether a firewall drops what nobody asked for. */
            firewall?: components["schemas"]["Signal"];
            /** @description The operating system's name and version, for people. */
            os_name?: string | null;
            /** @description Its version as rules compare it. On Linux that is the kernel's. */
            os_version?: string | null;
            /** @description Whether an update waits for a restart. */
            reboot_pending?: components["schemas"]["Signal"];
            /** @description Whether the screen locks itself. */
            screen_lock?: components["schemas"]["Signal"];
        };
        /**
         * @description What a posture policy asks for. What is not named is not asked for; what a machine cannot tell counts
         *     as failed.
         */
        PostureRequirements: {
            /** @description Whether updates have to come by themselves. */
            auto_update?: boolean;
            /** @description Whether disks have to be encrypted. */
            disk_encryption?: boolean;
            /** @description Whether a firewall has to be on. */
            firewall?: boolean;
            /** @description Oldest version of the agent. */
            min_agent_version?: string | null;
            /**
             * @description Oldest version per operating system: by the name of a Linux distribution (`debian`, `ubuntu`), by
             *     `linux` (the kernel), `macos`, `windows` and so on. Of a distribution and `linux` both, both
             *     count. Systems that are not named may have any.
             */
            min_os_version?: {
                [key: string]: string;
            };
            /** @description Whether the screen has to lock itself. */
            screen_lock?: boolean;
        };
        /** @description What one policy says of a machine. */
        PostureResult: {
            /** @description Each check. */
            checks: components["schemas"]["PostureCheck"][];
            /**
             * Format: date-time
             * @description When the consequence begins, or began.
             */
            enforced_at?: string | null;
            /**
             * Format: date-time
             * @description Since when it fails. `None`: all is well.
             */
            failing_since?: string | null;
            /** @description Its name. */
            name: string;
            /** @description What follows from a failure. */
            on_failure: components["schemas"]["OnFailure"];
            /** @description The policy. */
            policy: components["schemas"]["PosturePolicyId"];
        };
        /**
         * @description How a machine stands with its org's posture policies, in a word.
         * @enum {string}
         */
        PostureStanding: "failing" | "stale" | "none" | "passing";
        /**
         * @description Whether a pair of machines demands the post-quantum handshake.
         * @enum {string}
         */
        PqMode: "preferred" | "required";
        /** @description A WireGuard preshared key: base64 in JSON. Zeroized on drop, no `Debug`. */
        PresharedKey: string;
        /** @description What a person shows besides. */
        Proof: {
            code?: string;
            password?: string;
            /** @description What it is for. */
            waiting: string;
        };
        /** @description `PUT /api/orgs/{org}/policy` */
        PutPolicyRequest: {
            /** @description The document. */
            text: string;
            /**
             * Format: int64
             * @description The version that the text was made from. If another is in force by now, nothing happens
             *     (`CONFLICT`).
             */
            version: number;
        };
        /** @description `PUT /api/orgs/{org}/policy/rules/{rule}` */
        PutRuleRequest: {
            /** @description The rule as it shall be. Fields that stay the same keep their comments. */
            rule: Record<string, unknown>;
        };
        /**
         * @description `PUT /api/orgs/{org}/sso`. Answer: [`SsoSettings`]. `DELETE` of the same path ends sign-in by the
         *     provider.
         */
        PutSsoRequest: {
            /** @description Our name at the provider. */
            client_id: string;
            /** @description Our secret at the provider. Absent: the one of before, if issuer and client stay the same. */
            client_secret?: string | null;
            /**
             * @description Whether people whom the provider knows become members at their first sign-in. Else they are
             *     invited first.
             */
            create_members?: boolean;
            /** @description What those groups mean here. */
            group_rules?: components["schemas"]["GroupRule"][];
            /** @description The claim that lists a person's groups. */
            groups_claim?: string;
            /** @description The provider's issuer identifier, as its discovery document names it: `https://…`. */
            issuer: string;
            /** @description Whether members who are no owners reach the org only by sessions that the provider vouched for. */
            required?: boolean;
            /**
             * @description Take addresses without the claim `email_verified`. Only for a provider that sends none, and whose
             *     users cannot choose their own address.
             */
            trust_email?: boolean;
        };
        /**
         * @description `GET /api/orgs/{org}/machines/{machine}/reach`: whom a machine may open something towards, and who towards it, as the
         *     rules stand now.
         */
        Reach: {
            /** @description Who reaches it. */
            reached_by: components["schemas"]["ReachList"];
            /** @description Whom it reaches. */
            reaches: components["schemas"]["ReachList"];
            /** @description The rules that are named there. */
            rules: components["schemas"]["ReachRule"][];
        };
        /** @description Machines by name: all are counted, the first [`MAX_REACH`] are named. */
        ReachList: {
            /**
             * Format: int64
             * @description How many there are.
             */
            count: number;
            /** @description Some of them. */
            machines: components["schemas"]["ReachMachine"][];
        };
        /** @description A machine at the other end. */
        ReachMachine: {
            /** @description The machine. */
            id: components["schemas"]["MachineId"];
            /** @description Its name. */
            name: string;
            /** @description The rules that allow it, at most [`MAX_REACH_RULES`] of them; each may be narrowed by rules that deny. */
            rules: components["schemas"]["RuleId"][];
        };
        /** @description A rule that allows something. */
        ReachRule: {
            /** @description Where it stands in the document. */
            at: components["schemas"]["Position"];
            /** @description For people. */
            description: string;
            /** @description Its `id` in the document, if it has one. */
            name?: string | null;
            /** @description The rule. */
            rule: components["schemas"]["RuleId"];
        };
        /** @description A change. */
        RealtimeEvent: {
            /** @description What was done, as in `machine.update`. */
            action: string;
            actor?: components["schemas"]["AuditActor"] | null;
            /** @description Values after. */
            after?: Record<string, unknown> | null;
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description Values before. */
            before?: Record<string, unknown> | null;
            /** @description Where it belongs. */
            channel: components["schemas"]["Channel"];
            /** @description Columns that have changed, or that the row has. */
            columns: string[];
            /** @description What became of the row. */
            event: components["schemas"]["RowChange"];
            /** @description Id of the row, as the audit log names it. */
            id?: string | null;
            /** @description Its name, address or description. */
            name?: string | null;
            /**
             * Format: int64
             * @description Number of the row in the audit log.
             */
            seq: number;
        };
        /** @description What the server says: `{"type": …, "body": …}`. */
        RealtimeMessage: {
            /** @description The channels that the client hears now. Sent whenever they change, also because its role did. */
            body: {
                /** @description Which. */
                channels: components["schemas"]["Channel"][];
                /** @description Asked for, and not for the caller's role. */
                refused: components["schemas"]["Channel"][];
                /**
                 * Format: int64
                 * @description Events up to this one the client has missed, unless it is told of them next.
                 */
                seq: number;
            };
            /** @enum {string} */
            type: "subscribed";
        } | {
            /** @description A change. */
            body: components["schemas"]["RealtimeEvent"];
            /** @enum {string} */
            type: "event";
        } | {
            /** @description A row of the audit log. */
            body: components["schemas"]["AuditEntry"];
            /** @enum {string} */
            type: "audit";
        } | {
            /** @description A machine came or went. */
            body: {
                /** @description Which. */
                machine: components["schemas"]["MachineId"];
                /** @description Whether it is there. */
                online: boolean;
            };
            /** @enum {string} */
            type: "presence";
        } | {
            /** @description Something of these channels was missed: read it anew. */
            body: {
                /** @description Which. */
                channels: components["schemas"]["Channel"][];
                /**
                 * Format: int64
                 * @description What comes next is after this.
                 */
                seq: number;
            };
            /** @enum {string} */
            type: "resync";
        } | {
            /** @description The new token is taken. */
            body: {
                /**
                 * Format: date-time
                 * @description When it ends, and the connection with it.
                 */
                until: string;
            };
            /** @enum {string} */
            type: "token_taken";
        } | {
            /** @description The connection ends, and why. */
            body: components["schemas"]["ErrorBody"];
            /** @enum {string} */
            type: "error";
        };
        /** @description What a client says. */
        RealtimeRequest: {
            /** @description Which. */
            channels: components["schemas"]["Channel"][];
            /**
             * Format: int64
             * @description The last `seq` that the client saw: it gets what came after, first.
             */
            since?: number | null;
            /** @enum {string} */
            type: "subscribe";
        } | {
            /** @description Which. */
            channels: components["schemas"]["Channel"][];
            /** @enum {string} */
            type: "unsubscribe";
        } | {
            /** @description The token. */
            token: string;
            /** @enum {string} */
            type: "token";
        } | {
            /** @enum {string} */
            type: "unknown";
        };
        /** @description `POST /api/auth/refresh` and `/logout`, for clients without cookies. */
        RefreshRequest: {
            /** @description The refresh token. Absent: the `__Host-` cookie's. */
            refresh_token?: string | null;
        };
        /** @description The envelope of a call that was refused. */
        Refusal: {
            data: null;
            error: components["schemas"]["ErrorBody"];
            /** @enum {boolean} */
            success: false;
        };
        /** @description A region as it is written and shown: what clients get, and where it lies. */
        RegionDocument: components["schemas"]["RelayRegion"] & components["schemas"]["Location"];
        /** @description A region's health. */
        RegionHealth: components["schemas"]["Location"] & {
            /** @description Short code. */
            code: string;
            /** @description The region's number. */
            id: components["schemas"]["RegionId"];
            /** @description Name for people. */
            name: string;
            /** @description Its relays, in the order of the map. */
            nodes: components["schemas"]["NodeHealth"][];
            /** @description Whether it is the org's own. */
            own: boolean;
        };
        /**
         * Format: int32
         * @description A relay region. Small numbers chosen by the operator; 900 to 999 are for an org's own regions.
         */
        RegionId: number;
        /** @description Answer to a registration. */
        Registered: {
            /** @description Its full DNS name. */
            dns_name: string;
            /**
             * Format: ipv4
             * @description Tailnet address, IPv4.
             */
            ipv4: string;
            /**
             * Format: ipv6
             * @description Tailnet address, IPv6.
             */
            ipv6: string;
            /**
             * Format: date-time
             * @description When the machine must sign in again. `None`: never.
             */
            key_expires_at?: string | null;
            /** @description The machine's id. */
            machine_id: components["schemas"]["MachineId"];
            /** @description The name that it got. */
            name: string;
            /** @description The machine token, shown this once. */
            node_key: components["schemas"]["MachineToken"];
            /** @description The machine's org. */
            org: components["schemas"]["OrgId"];
            /** @description The org's name. */
            org_name: string;
        };
        /**
         * @description `POST /api/register-machine`, bearer: an auth key or a user's access token.
         *
         *     The same WireGuard key with the machine token that it was given registers the same machine
         *     again: id and addresses stay. Without that token it is a `REGISTRATION_CONFLICT`.
         */
        RegisterRequest: {
            /** @description The agent's version. */
            agent_version: string;
            /** @description ML-KEM-768 encapsulation key (the seed's `pqc_pubkey`). */
            kem_key: components["schemas"]["KemPublicKey"];
            /** @description Wanted name: one DNS label. If taken, the control plane appends a number. */
            name: string;
            node_key?: components["schemas"]["MachineToken"] | null;
            org?: components["schemas"]["OrgId"] | null;
            /** @description Operating system and architecture, as in `linux-x86_64`. */
            os: string;
            /** @description WireGuard public key. */
            wg_key: components["schemas"]["WgPublicKey"];
        };
        /** @description `GET /api/derp-health`: whether the relays work, as the control plane sees them. */
        RelayHealth: {
            /** @description The regions that the caller may see. */
            regions: components["schemas"]["RegionHealth"][];
        };
        /** @description One relay host. */
        RelayNode: {
            /** @description Addresses to use instead of resolving `host`. Empty: resolve. */
            addresses?: string[];
            /** @description How the relay proves itself. */
            certificate?: components["schemas"]["CertificatePin"];
            /**
             * Format: int32
             * @description TCP port of the relay. `None`: no relay here.
             */
            derp_port?: number | null;
            /** @description DNS name or IP address; TLS server name. */
            host: string;
            /**
             * Format: int32
             * @description TCP port at which the host answers `/generate_204` without TLS, by which a machine finds out
             *     whether a captive portal stands between. `None`: it does not.
             */
            http_port?: number | null;
            /** @description Unique within the region. */
            name: string;
            /**
             * Format: int32
             * @description UDP port of the relay's QUIC transport. `None`: TCP only.
             */
            quic_port?: number | null;
            /**
             * Format: int32
             * @description UDP port of the STUN service. `None`: no STUN here.
             */
            stun_port?: number | null;
        };
        /** @description Relays that stand near each other and know of each other's clients. */
        RelayRegion: {
            /** @description Short code, as in `lon`. */
            code: string;
            /** @description The region's number; the key in [`RelayMap::regions`]. */
            id: components["schemas"]["RegionId"];
            /** @description Name for people, as in `London`. */
            name: string;
            /** @description The region's relays, in the order in which a client tries them. */
            nodes: components["schemas"]["RelayNode"][];
        };
        /**
         * @description `PUT /api/machine-connections`, bearer: machine token. When something of it has changed, at most every
         *     [`CONNECTIONS_SECONDS`].
         */
        ReportConnections: {
            /** @description At most [`MAX_CONNECTIONS`]. */
            connections: components["schemas"]["Connection"][];
            /**
             * Format: int32
             * @description How many there are.
             */
            count: number;
        };
        /** @description What the CLI puts into the address that it opens. */
        Request: {
            challenge?: string;
            port?: string;
            state?: string;
        };
        /** @description A form of the page for a new password: with the address, or with token and password. */
        ResetForm: {
            email?: string;
            password?: string;
            token?: string;
        };
        /**
         * @description `POST /api/auth/reset-password`: sends a mail, if the address has an account. The answer is the same
         *     if not.
         */
        ResetPasswordRequest: {
            /** @description The account's address. */
            email: string;
        };
        /**
         * @description A role in an org.
         * @enum {string}
         */
        Role: "owner" | "admin" | "auditor" | "member";
        /** @description `POST /api/orgs/{org}/policy/versions/{version}/rollback` */
        RollbackRequest: {
            /**
             * Format: int64
             * @description The version in force, as the caller knows it.
             */
            version: number;
        };
        /**
         * @description `POST /api/orgs/{org}/static-peers/{machine}/keys`: new keys, maybe another gateway. What was configured
         *     before ends at once. It may be another device, so where new machines wait for approval, one that a member
         *     gives new keys waits again. Its sign-in is renewed, unless an API key asks. Answer: [`StaticPeerConfig`].
         */
        RotateStaticPeer: {
            gateway?: components["schemas"]["MachineId"] | null;
            /** @description As in [`CreateStaticPeer`]. */
            preshared_key?: boolean;
            public_key?: components["schemas"]["WgPublicKey"] | null;
        };
        /**
         * @description What became of a row.
         * @enum {string}
         */
        RowChange: "INSERT" | "UPDATE" | "DELETE";
        /**
         * Format: uuid
         * @description A rule of an org's policy.
         */
        RuleId: string;
        /** @description What one rule says. */
        RuleVerdict: {
            /** @description What it does if all conditions hold. */
            action: components["schemas"]["Action"];
            /** @description Where it stands in the document. */
            at: components["schemas"]["Position"];
            /** @description All that it asks for. */
            conditions: components["schemas"]["Condition"][];
            /** @description For people. */
            description: string;
            /** @description Whether all conditions hold. */
            matches: boolean;
            /** @description Its `id` in the document, if it has one. */
            name?: string | null;
            /** @description The rule. */
            rule: components["schemas"]["RuleId"];
        };
        /**
         * @description A list of the document that holds rules.
         * @enum {string}
         */
        Section: "acls" | "grants";
        /** @description A human session: answer to login, refresh and the CLI's code exchange. */
        Session: {
            /** @description ES256 JWT, 15 minutes. */
            access_token: string;
            /**
             * Format: int64
             * @description Seconds until the access token ends.
             */
            expires_in: number;
            /** @description Single use, 30 days, rotated at each refresh. */
            refresh_token: string;
        };
        /**
         * Format: uuid
         * @description A person's session: everything that came of one sign-in.
         */
        SessionId: string;
        /**
         * @description An entry of `GET /api/auth/sessions`. `DELETE …/sessions/{id}` ends one, `DELETE …/sessions` all
         *     but the caller's. The session's access token, 15 minutes at most, lives on.
         */
        SessionInfo: {
            /**
             * Format: date-time
             * @description When somebody signed in.
             */
            began_at: string;
            /** @description What the client calls itself (`User-Agent`). */
            client: string;
            /** @description Whether it is the caller's. */
            current: boolean;
            /** @description The session. */
            id: components["schemas"]["SessionId"];
            /** @description From where, at that time. */
            ip?: string | null;
            /**
             * Format: date-time
             * @description When it was refreshed last.
             */
            refreshed_at: string;
        };
        /** @description One finding. */
        Signal: {
            /**
             * @description What was found, for people; at most [`MAX_POSTURE_TEXT`] characters. Steady: it changes when
             *     what it speaks of does.
             */
            detail?: string;
            /** @description Whether it is so. */
            state?: components["schemas"]["Known"];
        };
        /** @description A provider that everybody may sign in by. */
        SignInProvider: {
            /** @description `google` or `github`. */
            id: string;
            /** @description As people call it. */
            name: string;
            /** @description What the browser opens, with `return_to` added. */
            start: string;
        };
        /** @description `GET /api/auth/ways`: how people sign in at this deployment. */
        SignInWays: {
            /** @description Whether letters are sent: new addresses have to be confirmed, and forgotten passwords can be replaced. */
            mail: boolean;
            /** @description The deployment's own providers. */
            providers: components["schemas"]["SignInProvider"][];
            /** @description Whether anybody may make an account with a password. */
            sign_up: boolean;
        };
        /** @description `POST /api/auth/signup` */
        SignupRequest: {
            /** @description E-mail address: the account's name. */
            email: string;
            invitation?: components["schemas"]["InvitationToken"] | null;
            /** @description [`MIN_PASSWORD`] to [`MAX_PASSWORD`]. */
            password: string;
        };
        /**
         * @description `GET /api/auth/sso?hint=…`: whether an address, or an org's label, leads to an org's own provider. Of an address the
         *     domain alone counts, so that nothing is told of accounts.
         */
        SsoDiscovery: {
            /** @description What the browser opens, with `&return_to=` added. `None`: no org with a sign-in of its own is known by that. */
            start?: string | null;
        };
        /**
         * @description An entry of `GET /api/orgs/{org}/sso/domains`: a domain for whose addresses the org's provider may make
         *     accounts. `POST …/domains/{domain}/prove` looks the record up; `DELETE …/domains/{domain}` gives the
         *     domain up.
         */
        SsoDomain: {
            /** @description The domain. */
            domain: string;
            /**
             * Format: date-time
             * @description When the record was found. `None`: not yet.
             */
            proved_at?: string | null;
            /** @description The name of the TXT record that proves it. */
            record_name: string;
            /** @description What that record has to hold. */
            record_value: string;
        };
        /** @description `GET /api/orgs/{org}/sso` */
        SsoSettings: {
            /** @description As in [`PutSsoRequest`]. The secret is not shown. */
            client_id: string;
            /** @description As in [`PutSsoRequest`]. */
            create_members: boolean;
            /** @description As in [`PutSsoRequest`]. */
            group_rules: components["schemas"]["GroupRule"][];
            /** @description As in [`PutSsoRequest`]. */
            groups_claim: string;
            /** @description As in [`PutSsoRequest`]. */
            issuer: string;
            /** @description The redirect URI to register at the provider. */
            redirect_uri: string;
            /** @description As in [`PutSsoRequest`]. */
            required: boolean;
            /** @description As in [`PutSsoRequest`]. */
            trust_email: boolean;
            /**
             * Format: date-time
             * @description When this was changed last.
             */
            updated_at: string;
        };
        /**
         * @description A static peer. `GET /api/orgs/{org}/static-peers` lists them; as machines, they are in
         *     `GET /api/orgs/{org}/machines` too, and everything else is done with them there.
         */
        StaticPeer: components["schemas"]["Machine"] & {
            gateway?: components["schemas"]["MachineId"] | null;
            /** @description The gateway's name. */
            gateway_name?: string | null;
            /** @description Why it is not online, if that is its gateway's doing. For people. */
            message?: string | null;
            /** @description Whether it has a preshared key. */
            preshared_key: boolean;
            /** @description The device's WireGuard key. */
            public_key: components["schemas"]["WgPublicKey"];
        };
        /** @description What a device is configured with. Shown once. */
        StaticPeerConfig: {
            /** @description The file for `wg-quick` and the WireGuard apps. Without a private key if the device has made its own. */
            config: string;
            /** @description What to know of it. For people. */
            notice: string;
            /** @description The static peer. */
            peer: components["schemas"]["StaticPeer"];
            /** @description The same as a QR code, in SVG. `None`: without a private key it would be of no use. */
            qr_svg?: string | null;
            /** @description The same for terminals: lines of block characters. */
            qr_text?: string | null;
        };
        /** @enum {string} */
        Step: "sign-in" | "sign-up" | "connect" | "sign-out";
        /** @description A form of the page. */
        Submission: components["schemas"]["Request"] & {
            /** @description Of the authenticator, for a person with a second factor. */
            code?: string;
            email?: string;
            /** @description Name of the org to make, for a person without one. */
            org?: string;
            password?: string;
            step: components["schemas"]["Step"];
        };
        /** @description A new TOTP secret (RFC 6238: SHA-1, six digits, 30 seconds), shown this once. */
        TotpSetup: {
            /** @description The secret in base 32, to be typed. */
            secret: string;
            /** @description The same as an `otpauth://` URL, to be shown as a QR code. */
            url: string;
        };
        /** @description A machine's tunnels, counted, as it has told of them within [`CONNECTIONS_STALE_SECONDS`]. */
        TunnelMix: {
            /**
             * Format: int32
             * @description Those that go directly.
             */
            direct: number;
            /**
             * Format: int32
             * @description Those whose preshared key is one of the hybrid handshake.
             */
            post_quantum: number;
            /**
             * Format: int32
             * @description Those that a relay carries.
             */
            relayed: number;
            /**
             * Format: int32
             * @description Those without a path right now.
             */
            waiting: number;
        };
        /** @description `POST /api/auth/identities/unlink`: a provider knows the caller no more. */
        UnlinkRequest: {
            /** @description The account's password. */
            password: string;
            /** @description As the list names it. */
            provider: string;
            /** @description As the list names it. */
            subject: string;
            /** @description A code of the authenticator, or a backup code, if the account has a second factor. */
            totp_code?: string | null;
        };
        /**
         * @description `PATCH /api/orgs/{org}/machines/{machine}`; what is not named stays. `DELETE` of the same path deletes
         *     it.
         */
        UpdateMachineRequest: {
            /**
             * Format: date-time
             * @description When the machine must sign in again. A time in the past expires it now.
             */
            key_expires_at?: string | null;
            /** @description Whether its sign-in ends by time. Switched on, it ends after what the org's settings say. */
            key_expiry?: boolean | null;
            /** @description A new name: one DNS label, free in the org. */
            name?: string | null;
            /**
             * @description All its tags, as in `tag:web`: names of the policy's `tagOwners`. Owners and admins may give
             *     any; a member may give tags that `tagOwners` lists them for to machines of their own, which are
             *     theirs no longer then.
             */
            tags?: string[] | null;
        };
        /**
         * @description `PATCH /api/orgs/{org}/members/{user}`. Answer: [`Member`]. `DELETE` of the same path removes the
         *     member.
         */
        UpdateMemberRequest: {
            /** @description The new role. */
            role: components["schemas"]["Role"];
        };
        /** @description `PATCH /api/orgs/{org}/settings`. What is not named stays. */
        UpdateOrgSettings: {
            /**
             * @description As in [`OrgSettings`]: a private or shared network (RFC 1918, RFC 6598) of at most [`MAX_IPV4_NETWORK_BITS`]
             *     bits. Only while no machine has an address.
             */
            ipv4_network?: string | null;
            /**
             * Format: int32
             * @description As in [`OrgSettings`]; [`MIN_KEY_EXPIRY_DAYS`] to [`MAX_KEY_EXPIRY_DAYS`]. Holds for sign-ins
             *     from then on.
             */
            key_expiry_days?: number | null;
            /** @description As in [`OrgSettings`]. Connections that are open end, too. */
            lockdown?: boolean | null;
            /** @description As in [`OrgSettings`]. */
            machine_approval?: boolean | null;
            /** @description A new name: 1 to [`crate::api::MAX_ORG_NAME`] characters. Names of machines stay as they are. */
            name?: string | null;
            pq?: components["schemas"]["PqMode"] | null;
        };
        /**
         * Format: uuid
         * @description A person with an account. One user may be a member of several orgs.
         */
        UserId: string;
        /** @description Whether a packet may pass, and why. */
        Verdict: {
            /** @description Whether it may. */
            allowed: boolean;
            closest?: components["schemas"]["RuleVerdict"] | null;
            /** @description The rules that match: the denies if there are any, else those that allow. */
            matched: components["schemas"]["RuleVerdict"][];
            /** @description One sentence. */
            reason: string;
        };
        /**
         * @description `POST /api/auth/verify-email`: confirms an account's address. It takes the password too: who has the
         *     address must not confirm an account that a stranger made with it.
         */
        VerifyEmailRequest: {
            /** @description The password that was chosen at sign-up. */
            password: string;
            /** @description The token of the mail. */
            token: components["schemas"]["MailToken"];
        };
        /** @description The form that confirms an address. */
        VerifyForm: {
            password: string;
            token: string;
        };
        /** @description What a machine reports of itself, and its peers are told of it. */
        VolatileReport: {
            disco_key?: components["schemas"]["DiscoPublicKey"] | null;
            /** @description Where it may be reached, at most [`MAX_ENDPOINTS`]. */
            endpoints: components["schemas"]["Endpoint"][];
            home_region?: components["schemas"]["RegionId"] | null;
        };
        /** @description WireGuard static public key. Printed as `wg` prints it: base64, 44 characters. */
        WgPublicKey: string;
        /** @description How far a machine's wipe has come. */
        Wipe: {
            /**
             * Format: date-time
             * @description When it was asked for.
             */
            asked_at: string;
            /**
             * Format: date-time
             * @description When the machine said that it is done.
             */
            done_at?: string | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
